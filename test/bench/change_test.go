package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// BenchmarkOneChanged is the work after a reading in which one tunnel of many has gone,
// or is there again, and the share of each part in it.
func BenchmarkOneChanged(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		up, fewer := snapshot(n, false), snapshot(n-1, false)
		b.Run(fmt.Sprint(n), func(b *testing.B) { changes(b, up, fewer) })
		b.Run(fmt.Sprint(n, "-apart"), func(b *testing.B) { changes(b, apart(up), apart(fewer)) })
		b.Run(fmt.Sprint(n, "-same"), func(b *testing.B) { changes(b, up, up) })
	}
}

func changes(b *testing.B, turns ...xfrm.Snapshot) {
	var t thinker
	t.tracker.Observed(map[xfrm.Family]live.Tables{xfrm.IPv4: {}, xfrm.IPv6: {}})
	for range 2 {
		for _, s := range turns {
			if err := t.think(s); err != nil {
				b.Fatal(err)
			}
		}
	}
	var join, compile, plan time.Duration
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		s := turns[n%len(turns)]
		n++
		start := time.Now()
		set := xfrm.Tunnels(s)
		joined := time.Now()
		result := t.compiler.Compile(inputOf(s, set))
		compiled := time.Now()
		change, err := t.tracker.Plan(result.Rulesets)
		if err == nil && !change.Empty() {
			err = t.tracker.Applied(change)
		}
		if err != nil {
			b.Fatal(err)
		}
		join, compile, plan = join+joined.Sub(start), compile+compiled.Sub(joined), plan+time.Since(compiled)
	}
	for _, part := range []struct {
		name string
		took time.Duration
	}{{"join-ms", join}, {"compile-ms", compile}, {"plan-ms", plan}} {
		b.ReportMetric(part.took.Seconds()*1000/float64(n), part.name)
	}
}
