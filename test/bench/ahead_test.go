package main

import (
	"fmt"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/sets/ahead"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// BenchmarkAhead is the work of one tunnel's elements ahead of the whole table.
func BenchmarkAhead(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		all := snapshot(n+1, false)
		one := xfrm.Snapshot{Host: all.Host}
		for _, p := range all.Policies {
			if p.Templates[0].Reqid == reqid(n) {
				one.Policies = append(one.Policies, p)
			}
		}
		in := input(snapshot(n, false))
		f := decide.Facts(in)
		live := program.Table(&f, program.Options{})
		w := ahead.NewWorld(in, &f, live)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				c, ok := w.Change(&live, xfrm.Set{}, xfrm.Tunnels(one))
				if !ok || c.Empty() {
					b.Fatal("no step ahead")
				}
			}
		})
	}
}
