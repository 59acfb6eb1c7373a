package metrics

import (
	"fmt"
	"testing"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
)

func rule(id string, kind status.Kind, packets uint64) status.Rule {
	return status.Rule{ID: id, Kind: kind, Packets: packets, Bytes: packets * 100}
}

func reportOf(tunnels ...status.Tunnel) status.Report { return status.Report{Tunnels: tunnels} }

func tunnelOf(id string, rules []status.Rule, states ...status.SA) status.Tunnel {
	return status.Tunnel{ID: id, State: status.Up, Rules: rules, SAs: states}
}

// The values of a counter on the kernel's side, and the total to be made of them.
func TestTotalsOnlyGrow(t *testing.T) {
	t.Parallel()
	verified := func(n uint64) []status.Rule { return []status.Rule{rule("v", status.KindVerified, n)} }
	in := func(spi string, n uint64) status.SA { return status.SA{SPI: spi, Dir: "in", Packets: n, Bytes: n} }
	shared := func(n uint64) status.Report {
		return status.Report{SharedRules: []status.Rule{rule("s", status.DropSpoof, n)}}
	}
	type want struct{ verified, in, spoof uint64 }
	tests := []struct {
		name    string
		reports []status.Report
		want    want
	}{
		{"the first report is where counting begins", []status.Report{reportOf(tunnelOf("t1", verified(1000), in("1", 500)))}, want{}},
		{"growth", []status.Report{reportOf(tunnelOf("t1", verified(1000), in("1", 500))), reportOf(tunnelOf("t1", verified(1007), in("1", 503)))}, want{7, 3, 0}},
		{"a rule that is new", []status.Report{reportOf(tunnelOf("t1", nil)), reportOf(tunnelOf("t1", verified(5), in("1", 4)))}, want{5, 4, 0}},
		{"a rule from zero", []status.Report{reportOf(tunnelOf("t1", verified(0))), reportOf(tunnelOf("t1", verified(5)))}, want{5, 0, 0}},
		{
			"a chain written anew", []status.Report{reportOf(tunnelOf("t1", verified(1000))), reportOf(tunnelOf("t1", verified(1010))), reportOf(tunnelOf("t1", verified(3)))},
			want{13, 0, 0},
		},
		{
			"a rekey", []status.Report{
				reportOf(tunnelOf("t1", nil, in("1", 500))), reportOf(tunnelOf("t1", nil, in("1", 510), in("2", 1))), reportOf(tunnelOf("t1", nil, in("2", 4))),
			}, want{0, 14, 0},
		},
		{
			"the same rule twice in a chain", []status.Report{
				reportOf(tunnelOf("t1", append(verified(10), verified(20)...))), reportOf(tunnelOf("t1", append(verified(11), verified(22)...))),
			}, want{3, 0, 0},
		},
		{"a drop", []status.Report{shared(100), shared(103)}, want{0, 0, 3}},
		{"a guard that goes away, and what it dropped with it", []status.Report{shared(100), shared(103), {}, {}}, want{0, 0, 3}},
		{"a guard that comes back", []status.Report{shared(100), {}, shared(2)}, want{0, 0, 2}},
		{"a guard of one tunnel", []status.Report{reportOf(tunnelOf("t1", nil)), reportOf(tunnelOf("t1", []status.Rule{rule("g", status.DropSpoof, 9)}))}, want{0, 0, 9}},
		{"a rule that only leads on", []status.Report{{}, {SharedRules: []status.Rule{rule("x", "", 9)}}}, want{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var sum totals
			for _, r := range tt.reports {
				sum.fold(r, 10)
			}
			of := sum.tunnels["t1"]
			got := want{of.by[0].packets, of.in.packets, sum.host[0].packets}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if of.by[0].bytes != 100*got.verified || of.in.bytes != got.in || sum.host[0].bytes != 100*got.spoof {
				t.Errorf("the bytes are not those of %+v: %+v, host %+v", got, of.sums, sum.host[0])
			}
		})
	}
}

// Ten thousand tunnels: a bounded number is told apart, the named first, the
// same ones every time, and the others' packets are not lost.
func TestTotalsAreBounded(t *testing.T) {
	t.Parallel()
	const n, limit = 10_000, 100
	at := func(round uint64, from int) status.Report {
		r := status.Report{}
		for i := from; i < n; i++ {
			id := fmt.Sprintf("t%010d", i)
			tun := tunnelOf(id, []status.Rule{rule(id, status.KindVerified, round)}, status.SA{SPI: "1", Dir: "out", Packets: 2 * round})
			if i%200 == 199 {
				tun.Configured, tun.Name = true, fmt.Sprintf("site-%d", i)
			}
			r.Tunnels = append(r.Tunnels, tun)
		}
		return r
	}
	var sum totals
	sum.fold(at(0, 0), limit)
	first := sum.tunnels
	sum.fold(at(1, 0), limit)
	if len(first) != limit+1 || len(sum.tunnels) != limit+1 {
		t.Fatalf("%d, then %d tunnels, want %d and the others", len(first), len(sum.tunnels), limit)
	}
	var packets, out uint64
	named := 0
	for id, of := range sum.tunnels {
		if _, ok := first[id]; !ok {
			t.Errorf("%s was not served before", id)
		}
		if of.name != "" {
			named++
		}
		packets += of.by[0].packets
		out += of.out.packets
	}
	if packets != n || out != 2*n || named != n/200 {
		t.Errorf("%d packets in, %d out, %d named; want %d, %d, %d", packets, out, named, n, 2*n, n/200)
	}
	// Those that leave give their place to others, and the sum of these never falls.
	before := sum.tunnels[other].by[0].packets
	sum.fold(at(2, 40), limit)
	if _, ok := sum.tunnels["t0000000000"]; ok || len(sum.tunnels) != limit+1 {
		t.Errorf("%d tunnels; the first is still there: %v", len(sum.tunnels), ok)
	}
	if after := sum.tunnels[other].by[0].packets; after < before+n-40-limit {
		t.Errorf("the others' packets went from %d to %d", before, after)
	}
	sum.fold(at(3, n-3), limit)
	if of, ok := sum.tunnels[other]; !ok || of.by[0].packets < before || of.statesOut != 0 || len(sum.tunnels) != 4 {
		t.Errorf("with three tunnels left the others are %+v, %v", of, ok)
	}
	sum.fold(at(4, 0), 0)
	if len(sum.tunnels) != 1 {
		t.Errorf("limit 0: %d tunnels", len(sum.tunnels))
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"office.main_1-a":    "office.main_1-a",
		"a\"} 1\nxfrmfw_x{b": "a___1_xfrmfw_x_b",
		"M\xfcnchen\x00":     "M_nchen_",
		"":                   "",
	} {
		if got := labelValue(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
