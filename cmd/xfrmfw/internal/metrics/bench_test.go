package metrics

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
)

// tenThousand tunnels with the compiler's output for each: some ten rules, and two
// states.
func tenThousand() status.Report {
	var r status.Report
	for i := range 10_000 {
		var rules []status.Rule
		for j, kind := range []status.Kind{"", "", "", "", "", status.KindVerified, status.KindUnconfirmed, status.KindVerified, "", status.DropLeak} {
			rules = append(rules, rule(fmt.Sprintf("%07d%05d", i, j), kind, uint64(i)))
		}
		r.Tunnels = append(r.Tunnels, tunnelOf(fmt.Sprintf("t%010d", i), rules,
			status.SA{SPI: fmt.Sprintf("0x%08x", i), Dir: "in", Packets: 1}, status.SA{SPI: fmt.Sprintf("0x%08x", ^i), Dir: "out", Packets: 1}))
	}
	return r
}

func BenchmarkFold10000(b *testing.B) {
	r := tenThousand()
	var sum totals
	b.ReportAllocs()
	for b.Loop() {
		sum.fold(r, 1000)
	}
}

func BenchmarkPage1000(b *testing.B) {
	of := NewTunnels(still(State{}), 1000)
	var sum totals
	sum.fold(tenThousand(), 1000)
	of.last.take(State{Report: tenThousand()}, sum, 1000)
	of.last.tried = of.now()
	of.last.at = of.last.tried
	of.pause = 1 << 62
	registry := prometheus.NewRegistry()
	registry.MustRegister(of)
	p := &page{from: registry, now: time.Now}
	b.ReportAllocs()
	for b.Loop() {
		text, err := p.make()
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(text)))
	}
}
