package prove

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// A packet is in the set with the verdict that the packet evaluator gives it, for
// random packets of random gateways, and the drop has the same case.
func TestSetsAreThePacketEvaluator(t *testing.T) {
	const packets = 300
	for g := range randomGateways(t, 2) {
		maker := fake.NewPassages(rand.New(rand.NewPCG(1, 7)), g.in, &g.facts)
		for family, rs := range g.sets {
			evaluator, w := trace.NewEvaluator(rs), evaluate.NewFirewall(rs, &g.facts, Values(g.in), true)
			fates := make(map[firewall.Way]evaluate.Fate)
			for _, way := range ways {
				fates[way] = w.Run(way, space.All)
			}
			for range packets {
				p := fake.WithOneSA(maker.Next())
				if xfrm.FamilyOf(p.Received.Src) != family {
					continue
				}
				want, steps := fake.Walk(evaluator, &g.facts, p)
				f := fates[p.Way]
				got := firewall.Verdict{}
				n := 0
				for _, is := range []struct {
					action firewall.Action
					set    space.Set
				}{{firewall.Leave, f.Left}, {firewall.Admit, f.Accepted}, {firewall.Discard, f.Dropped}, {firewall.Refuse, f.Rejected}} {
					if w.Has(is.set, p) {
						got.Action = is.action
						n++
					}
				}
				for _, sets := range []map[firewall.Case]space.Set{f.Discarded, f.Refused} {
					for c, set := range sets {
						if w.Has(set, p) {
							got.Case = c
						}
					}
				}
				if got.Action == firewall.Leave || got.Action == firewall.Admit {
					got.Case = want.Case
				}
				if n != 1 || got != want {
					var met []string
					for _, s := range steps {
						met = append(met, s.String())
					}
					t.Fatalf("%s: %s %v of %d verdicts, want %s %v: %+v\n%s", g.name, got.Action, got.Case, n, want.Action, want.Case, p, strings.Join(met, "\n"))
				}
			}
		}
	}
}
