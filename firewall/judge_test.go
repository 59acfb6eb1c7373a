package firewall_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// A packet that stays on the host concerns no tunnel, whatever its addresses.
func TestJudgeLoopback(t *testing.T) {
	in := fake.Gateway(rand.New(rand.NewPCG(3, 4)))
	facts := decide.Facts(in)
	m := fake.NewPassages(rand.New(rand.NewPCG(5, 6)), in, &facts)
	for range 200 {
		p := m.Next()
		p.In, p.Path, p.Way = "lo", nil, firewall.ToHost
		if got := firewall.Judge(&facts, p); got != (firewall.Verdict{Action: firewall.Leave, Case: firewall.Case9}) {
			t.Fatalf("%+v: %v %v", p, got.Action, got.Case)
		}
	}
}

// A guard asks for the packet that really leaves: after SNAT, and by the policy lookup
// behind it.
func TestJudgeBehindSNAT(t *testing.T) {
	addr := netip.MustParseAddr
	g := guard.Guard{Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix("10.1.0.0/24"), Source: guard.FromConfig}
	host := xfrm.Host{
		Links:     []xfrm.Link{{Index: 1, Name: "lo"}, {Index: 2, Name: "eth0"}, {Index: 3, Name: "eth1"}},
		Addresses: []xfrm.Address{{Link: 3, Prefix: netip.MustParsePrefix("10.2.0.1/24")}},
	}
	facts := decide.Facts(firewall.Input{Host: host, Config: firewall.Config{Marks: firewall.DefaultMarks()}, Guards: []guard.Guard{g}})
	sa := []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}}
	for _, tc := range []struct {
		name             string
		src, sent        string
		ahead, aheadSent []xfrm.Transform
		want             firewall.Verdict
	}{
		{"in clear", "10.2.0.9", "10.2.0.9", nil, nil, firewall.Verdict{Action: firewall.Refuse, Case: firewall.Case8}},
		{"NAT maps it into the selector, and nothing encrypts it", "172.16.0.9", "10.2.0.9", nil, nil, firewall.Verdict{Action: firewall.Refuse, Case: firewall.Case8}},
		{"NAT maps it into the selector, and the tunnel takes it", "172.16.0.9", "10.2.0.9", nil, sa, firewall.Verdict{Action: firewall.Leave, Case: firewall.Case9}},
		{"NAT maps it into another tunnel", "10.2.0.9", "192.0.2.2", nil, sa, firewall.Verdict{Action: firewall.Leave, Case: firewall.Case9}},
		{"masquerade takes it out of the tunnel", "10.2.0.9", "192.0.2.2", sa, nil, firewall.Verdict{Action: firewall.Refuse, Case: firewall.Case8}},
		{"of no tunnel", "172.16.0.9", "192.0.2.2", nil, nil, firewall.Verdict{Action: firewall.Leave, Case: firewall.Case9}},
	} {
		e := firewall.Ends{Src: addr(tc.src), Dst: addr("10.1.0.9"), SPort: 1024, DPort: 80}
		p := firewall.Passage{
			Way: firewall.Through, In: "eth1", Out: "eth0", Proto: xfrm.TCP, Received: e, AfterDNAT: e, Sent: e, Ahead: tc.ahead, AheadSent: tc.aheadSent,
		}
		p.Sent.Src = addr(tc.sent)
		if got := firewall.Judge(&facts, p); got != tc.want {
			t.Errorf("%s: %v %v, want %v %v", tc.name, got.Action, got.Case, tc.want.Action, tc.want.Case)
		}
	}
}

// Packets that were once judged wrongly have the right verdict.
func TestFaults(t *testing.T) {
	for _, f := range fake.Faults() {
		facts := decide.Facts(f.Input)
		if got := firewall.Judge(&facts, f.Passage); got != f.Want {
			t.Errorf("%s: %v %v, want %v %v", f.Name, got.Action, got.Case, f.Want.Action, f.Want.Case)
		}
	}
}
