package prove

import (
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// holdsBeside asks for all properties of the rules with the table beside them, as the iptables
// engine lays them out: guards that the destination alone decides while a policy stands are the
// table's (case 8d).
func holdsBeside(t *testing.T, g *gateway) {
	t.Helper()
	left := g.facts
	left.Guards = slices.Clone(left.Guards)
	for i := range left.Guards {
		d := &left.Guards[i]
		d.ByDestination = d.ByDestination && !d.Held
	}
	for _, rs := range compile.Rulesets(left) {
		if !slices.Contains(g.families, rs.Family) {
			continue
		}
		w := evaluate.NewBeside(rs, program.Companion(&g.facts), &g.facts, Values(g.in))
		for _, f := range Prove(w, &g.facts, g.in, nil, nil) {
			t.Errorf("%s: %s fails: %s", g.name, f.Property.Name, Describe(f.Packet))
		}
		if err := w.Odd(); err != nil {
			t.Errorf("%s: %v", g.name, err)
		}
	}
}

// All properties hold for the rules with the table beside them.
func TestRulesWithTheTableBeside(t *testing.T) {
	for g := range gateways(t, 1, 3) {
		holdsBeside(t, &g)
	}
}

// A tunnel whose policies stand without an SA, and of whose local selector nothing lives here.
func TestTheTableBesideDecidesByDestination(t *testing.T) {
	s := sample.Snapshot(sample.Sun(), sample.Site{Reqid: 11, Local: "192.0.2.2", Remote: "203.0.113.1", Pairs: [][2]string{{"10.7.0.0/24", "10.1.0.0/24"}, {"fd00:7::/64", "fd00:1::/64"}}})
	s.States = nil
	g := newGateway("no source lives here", firewall.Input{Set: xfrm.Tunnels(s), Host: s.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()}})
	for i := range g.facts.Guards {
		if d := &g.facts.Guards[i]; !d.ByDestination || !d.Held {
			t.Errorf("%+v", d)
		}
	}
	holdsBeside(t, &g)
}
