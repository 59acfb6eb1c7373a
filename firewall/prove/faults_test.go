package prove

import (
	"maps"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
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
			a := broken(evaluate.NewFirewall(rs, &g.facts, linkValues(g.in.Host), false), &g.facts, false)
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
