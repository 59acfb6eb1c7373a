package prove

import (
	"fmt"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/prove/judge"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Judge and the table of nftables drop the same packets, of all packets of random gateways
// and of those with packets that were once judged wrongly.
func TestTableIsJudge(t *testing.T) {
	asked := make(map[string]bool)
	ask := func(name string, facts *firewall.Facts, links []string, families ...xfrm.Family) {
		gateway := fmt.Sprintf("%+v", *facts)
		if asked[gateway] {
			return
		}
		asked[gateway] = true
		for _, family := range families {
			w := evaluate.NewTable(program.Table(facts, program.Options{}), family, facts, links, true)
			for _, way := range ways {
				for _, d := range tableDifferences(w, facts, way) {
					t.Errorf("%s: %s", name, d)
				}
			}
			if err := w.Odd(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for seed := range worlds(t, 3) {
		g := randomGateway(seed)
		ask(fmt.Sprintf("seed %d", seed), &g.facts, g.devices(), xfrm.IPv4, xfrm.IPv6)
	}
	for _, fault := range faults() {
		facts := decide.Facts(fault.Input)
		ask(fault.Name, &facts, linksOf(fault.Input.Host), xfrm.FamilyOf(fault.Passage.Received.Src))
	}
}

// tableDifferences are the packets that one of the table and Judge drops, one for each
// case of Judge.
func tableDifferences(w *evaluate.Firewall, f *firewall.Facts, way firewall.Way) []string {
	q := judge.New(w.Space, f, way)
	// The table asks before NAT and behind it, and for the flow's own source.
	is := w.Minus(q.Plain(), q.Union(q.ToldByTable(), q.Bit(q.SNAT), q.Bit(q.DNAT)))
	fate := w.Run(way, is)
	drops := w.Or(fate.Dropped, fate.Rejected)
	var list []string
	for _, j := range q.Verdicts(is) {
		set := w.Minus(j.Set, drops)
		got := "lets pass"
		if j.Action != firewall.Discard && j.Action != firewall.Refuse {
			set, got = w.And(j.Set, drops), "drops"
		}
		if set != space.None {
			list = append(list, fmt.Sprintf("the table %s, Judge %s %v: %+v", got, j.Action, j.Case, w.Witness(way, set)))
		}
	}
	slices.Sort(list)
	return list
}

// All properties hold for the tables of random gateways.
func TestPropertiesHoldOfTables(t *testing.T) {
	for seed := range worlds(t, 3) {
		g := randomGateway(seed)
		for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
			w := evaluate.NewTable(program.Table(&g.facts, program.Options{}), family, &g.facts, g.devices(), false)
			for _, f := range Prove(w, &g.facts, nil) {
				t.Errorf("seed %d: %s (%s): %+v", seed, f.Property.Name, f.Property.Says, f.Packet)
			}
		}
	}
}
