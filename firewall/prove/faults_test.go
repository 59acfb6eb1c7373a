package prove

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// A property fails where rules judge the packets of a source wrongly that were once judged
// wrongly: those that are to be dropped pass, and those that are to be accepted are dropped.
// It asks rules alone: where the facts are wrong, rules and properties are so together.
func TestFaultsPutBack(t *testing.T) {
	found, asked := make(map[string]int), 0
	for _, fault := range faults() {
		if fault.Want.Action == firewall.Leave || len(fault.Passage.Path) > 1 || len(fault.Passage.Ahead) > 1 {
			continue
		}
		g := newGateway(fault.Name, fault.Input, xfrm.FamilyOf(fault.Passage.Received.Src))
		for _, family := range g.families {
			rs := spoilt(g.sets[family], fault)
			asked++
			a := broken(evaluate.NewFirewall(rs, &g.facts, Values(g.in), false), &g, false)
			if a.property == "" {
				t.Errorf("%s: no property fails", fault.Name)
			}
			found[a.property]++
		}
	}
	t.Logf("%d packets; the first property that fails:", asked)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		t.Logf("%4d %s", found[name], name)
	}
}

// spoilt is a rule set that judges the packets of a fault's source wrongly.
func spoilt(rs rules.Ruleset, fault fake.Fault) rules.Ruleset {
	p := fault.Passage
	rs.Chains = slices.Clone(rs.Chains)
	for _, h := range rs.Hooks {
		r := rules.Rule{Src: prefix.Single(p.Received.Src), Proto: p.Proto, Target: rules.Target{Verb: rules.Drop}}
		if len(p.Path) > 0 && h.From != "POSTROUTING" && h.From != "OUTPUT" {
			r.Policy = rules.PolicyMatch{Dir: rules.PolicyIn, HasReqid: true, Reqid: p.Path[0].Reqid}
		}
		switch passes := fault.Want.Action != firewall.Admit; {
		case h.Table == rules.NAT, !passes && h.Table != rules.Filter:
			continue
		case passes && h.Table == rules.Filter:
			r.Target.Verb = rules.Accept
		case passes:
			r.Target.Verb = rules.Return
		}
		at := slices.IndexFunc(rs.Chains, func(c rules.Chain) bool { return c.Table == h.Table && c.Name == h.To })
		rs.Chains[at].Rules = rules.ListOf(append([]rules.Rule{r}, rs.Chains[at].Rules.Slice()...)...)
	}
	return rs
}

// Leaks that facts had, so that rules and Judge shared them, break the properties that go by
// the kernel's policies, the memory and the routes alone, and no other.
func TestFaultsOfFacts(t *testing.T) {
	inputs := make(map[string]firewall.Input)
	for _, f := range fake.Faults() {
		inputs[f.Name] = f.Input
	}
	gone, ok := inputs["tunnel over a private network, gone: in by it"]
	had, of := inputs["a network of B that A had (10.0.0.0/8): out of A"]
	wide, is := inputs["local selector wider than the LAN, 0.0.0.0/0 by the uplink: a stranger into the tunnel"]
	if !ok || !of || !is {
		t.Fatal("the faults are called otherwise")
	}
	line := gone.Host.Links[slices.IndexFunc(gone.Host.Links, func(l xfrm.Link) bool { return l.Name == "mpls0" })]
	// routed is the gateway whose tunnel is gone, with a peer that is not remembered and a
	// route by the line.
	routed := func(local, remote, route string) firewall.Input {
		in := gone
		in.Guards = []guard.Guard{{Local: netip.MustParsePrefix(local), Remote: netip.MustParsePrefix(remote), Source: guard.FromMemory}}
		in.Host.Routes = slices.DeleteFunc(slices.Clone(in.Host.Routes), func(r xfrm.Route) bool { return r.Link == line.Index })
		in.Host.Routes = append(in.Host.Routes, xfrm.Route{Dst: netip.MustParsePrefix(route), Link: line.Index})
		return in
	}
	givesWay := func(route string) func(*firewall.Facts) {
		return func(f *firewall.Facts) {
			for i := range f.Guards {
				g := &f.Guards[i]
				g.Exempt = append(slices.Clone(g.Exempt), firewall.Network{Prefix: netip.MustParsePrefix(route), Device: line.Name})
			}
		}
	}
	leads := func(p string) func(*firewall.Facts) {
		return func(f *firewall.Facts) { f.Behind = append(slices.Clone(f.Behind), netip.MustParsePrefix(p)) }
	}
	for _, tt := range []struct {
		name  string
		in    firewall.Input
		spoil func(*firewall.Facts)
		want  []string
	}{
		{"a guard gives way to the interface of the peer of a tunnel that is gone", gone, givesWay("10.0.0.0/8"), []string{"kernel-in", "kernel-out"}},
		{"a guard gives way to a quarter of the internet", routed("10.2.0.0/24", "10.1.0.0/24", "0.0.0.0/2"), givesWay("0.0.0.0/2"), []string{"kernel-in", "kernel-out"}},
		{"a guard gives way to all global addresses", routed("fd00:2::/64", "2001:db8:1::/48", "2000::/3"), givesWay("2000::/3"), []string{"kernel-in", "kernel-out"}},
		{"a tunnel keeps a network that another has now", had, func(f *firewall.Facts) {
			c := f.Claims[slices.IndexFunc(f.Claims, func(c firewall.Claim) bool { return c.In.Reqid == 1 })]
			c.Pair.Remote = netip.MustParsePrefix("10.1.0.0/24")
			f.Claims = append(slices.Clone(f.Claims), c)
		}, []string{"kernel-source"}},
		{"a local selector is the LAN's as a whole", wide, func(f *firewall.Facts) { f.PartlyBehind = nil }, []string{"kernel-inject"}},
		{"the default route leads to the LAN", wide, leads("0.0.0.0/0"), []string{"kernel-inject"}},
		{"a blackhole route leads to the LAN", wide, leads("10.2.0.0/16"), []string{"kernel-inject"}},
		{"strangers come in by no interface", wide, func(f *firewall.Facts) { f.Uplinks = nil }, []string{"kernel-inject"}},
	} {
		for _, spoilt := range []bool{false, true} {
			facts, want := decide.Facts(tt.in), []string(nil)
			if spoilt {
				tt.spoil(&facts)
				want = tt.want
			}
			for _, engine := range []string{"iptables", "nftables"} {
				broken := make(map[string]bool)
				for _, rs := range compile.Rulesets(facts) {
					w := evaluate.NewFirewall(rs, &facts, Values(tt.in), false)
					if engine == "nftables" {
						w = evaluate.NewTable(program.Table(&facts, program.Options{}), rs.Family, &facts, Values(tt.in), false)
					}
					for _, f := range Prove(w, &facts, tt.in, nil, nil) {
						broken[f.Property.Name] = true
						t.Logf("%s, %s: %s: %s", tt.name, engine, f.Property.Name, Describe(f.Packet))
					}
				}
				if diff := cmp.Diff(want, slices.Sorted(maps.Keys(broken))); diff != "" {
					t.Errorf("%s, %s, put back %t: properties wanted -, broken +:\n%s", tt.name, engine, spoilt, diff)
				}
			}
		}
	}
}
