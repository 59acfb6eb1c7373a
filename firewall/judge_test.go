package firewall_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Judge and the compiled rules give the same verdict and the same case for random
// packets of random gateways: in both families, on all three ways, with NAT, several
// SAs on the path, and flows of every state.
func TestJudgeIsTheRules(t *testing.T) {
	const packets = 400
	verdicts := make(map[string]int)
	differences, known := make(map[string]int), make(map[string]int)
	for seed := range uint64(120) {
		r := rand.New(rand.NewPCG(seed, 4242))
		in := fake.Gateway(r)
		facts := firewall.Decide(in)
		engines := make(map[xfrm.Family]trace.Evaluator)
		for _, rs := range compile.Rulesets(facts) {
			engines[rs.Family] = trace.NewEvaluator(rs)
		}
		maker := fake.NewPassages(r, in, &facts)
		for range packets {
			p := maker.Next()
			want := firewall.Judge(&facts, p)
			got, steps := fake.Walk(engines[familyOfAddr(p.Received.Src)], &facts, p)
			verdicts[want.Action.String()+" "+want.Case.String()]++
			if got == want {
				continue
			}
			if reason := explained(&facts, p, got, want); reason != "" {
				known[reason]++
				continue
			}
			key := fmt.Sprintf("rules %v %v, Judge %v %v", got.Action, got.Case, want.Action, want.Case)
			if differences[key]++; differences[key] == 1 {
				var met []string
				for _, s := range steps {
					met = append(met, s.String())
				}
				t.Errorf("seed %d: %s: %+v\n%s", seed, key, p, strings.Join(met, "\n"))
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(verdicts)) {
		t.Logf("%7d %s", verdicts[key], key)
	}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		t.Logf("%7d differ, because %s", known[key], key)
	}
	for key, n := range differences {
		t.Logf("%7d times: %s", n, key)
	}
	for _, rare := range []string{"drop 6", "drop 6b", "drop 7", "drop 7b", "drop 8", "reject 8", "drop 8b", "drop 8c", "accept 1", "accept 1b", "accept 2", "accept 3", "drop 3", "accept 4"} {
		if verdicts[rare] < 5 {
			t.Errorf("only %d packets were judged %q", verdicts[rare], rare)
		}
	}
}

// explained returns the reason for a difference that iptables can't avoid.
func explained(f *firewall.Facts, p firewall.Passage, got, want firewall.Verdict) string {
	policyOnly := slices.ContainsFunc(f.Claims, func(c firewall.Claim) bool {
		return c.PolicyOnly && slices.ContainsFunc(p.Path, func(sa xfrm.Transform) bool { return sa.Reqid == c.In.Reqid })
	})
	switch {
	case policyOnly && want.Case == firewall.Case2:
		return "packets that must carry none of our bits are judged anew in filter, by their addresses after DNAT"
	case got.Action == want.Action && got.Case == firewall.Case8 && want.Case == firewall.Case8d:
		return "a rule of case 8 and one of case 8d that are alike became one"
	}
	return ""
}

func familyOfAddr(a netip.Addr) xfrm.Family {
	if a.Is4() {
		return xfrm.IPv4
	}
	return xfrm.IPv6
}

// A packet that stays on the host concerns no tunnel, whatever its addresses.
func TestJudgeLoopback(t *testing.T) {
	in := fake.Gateway(rand.New(rand.NewPCG(3, 4)))
	facts := firewall.Decide(in)
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
	facts := firewall.Decide(firewall.Input{Host: host, Config: firewall.Config{Marks: firewall.DefaultMarks()}, Guards: []guard.Guard{g}})
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

// Packets that were once judged wrongly have the right verdict, by Judge and by the
// rules.
func TestFaults(t *testing.T) {
	for _, f := range fake.Faults() {
		facts := firewall.Decide(f.Input)
		if got := firewall.Judge(&facts, f.Passage); got != f.Want {
			t.Errorf("%s: %v %v, want %v %v", f.Name, got.Action, got.Case, f.Want.Action, f.Want.Case)
		}
		for _, rs := range compile.Rulesets(facts) {
			if rs.Family != familyOfAddr(f.Passage.Received.Src) {
				continue
			}
			got, steps := fake.Walk(trace.NewEvaluator(rs), &facts, f.Passage)
			if got != f.Want {
				t.Errorf("%s: the rules: %v %v, want %v %v", f.Name, got.Action, got.Case, f.Want.Action, f.Want.Case)
				for _, s := range steps {
					t.Log(s.String())
				}
			}
		}
	}
}
