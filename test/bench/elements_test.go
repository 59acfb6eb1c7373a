package main

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/rules/accept"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// BenchmarkOneChangedByElements measures the parts of a daemon's turn with the nftables
// engine, where one of 10,000 tunnels has changed.
func BenchmarkOneChangedByElements(b *testing.B) {
	const n = 10_000
	all, fewer := snapshot(n, false), snapshot(n-1, false)
	in := inputOf(all, xfrm.Tunnels(all))
	facts := decide.Facts(in)
	before := decide.Facts(input(fewer))
	have, want := program.Table(&before, program.Options{}), program.Table(&facts, program.Options{})
	for _, part := range []struct {
		name string
		run  func()
	}{
		{"join", func() { xfrm.Tunnels(all) }},
		{"decide", func() { decide.Facts(in) }},
		{"table", func() { program.Table(&facts, program.Options{}) }},
		{"validate", func() { _ = want.Validate() }},
		{"diff", func() { sets.Diff(have, want) }},
		{"accepts", func() { accept.Rulesets(facts) }},
	} {
		b.Run(part.name, func(b *testing.B) {
			for b.Loop() {
				part.run()
			}
		})
	}
}
