package prove

import (
	"fmt"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/prove/judge"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
)

// Judge and the table of nftables drop the same packets, of all packets of gateways.
func TestTableIsJudge(t *testing.T) {
	for g := range gateways(t, 2, 2) {
		for _, family := range g.families {
			w := g.table(family, true)
			for _, way := range ways {
				for _, d := range tableDifferences(w, &g.facts, way) {
					t.Errorf("%s: %s", g.name, d)
				}
			}
			if err := w.Odd(); err != nil {
				t.Errorf("%s: %v", g.name, err)
			}
		}
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
