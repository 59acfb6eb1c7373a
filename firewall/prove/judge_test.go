package prove

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

var ways = []firewall.Way{firewall.ToHost, firewall.Through, firewall.FromHost}

// coarse is a verdict without the details that the sets leave out.
func coarse(v firewall.Verdict) firewall.Verdict {
	switch {
	case v.Action == firewall.Admit, v.Action == firewall.Leave:
		v.Case = firewall.NoCase
	case v.Case == firewall.Case8d:
		v.Case = firewall.Case8
	}
	return v
}

// Judge over sets gives each packet the verdict of Judge.
func TestJudgeOverSetsIsJudge(t *testing.T) {
	const packets = 300
	for seed := range worlds(t, 3) {
		g := randomGateway(seed)
		maker := fake.NewPassages(rand.New(rand.NewPCG(seed, 9)), g.in, &g.facts)
		lists := make(map[string][]judged)
		spaces := make(map[xfrm.Family]*Space)
		for family := range g.sets {
			spaces[family] = NewSpace(family, g.facts.Marks, g.devices())
			for _, way := range ways {
				lists[fmt.Sprint(family, way)] = newSpec(spaces[family], &g.facts, way).judge(All)
			}
		}
		for range packets {
			p := one(maker.Next())
			family := xfrm.FamilyOf(p.Received.Src)
			want := coarse(firewall.Judge(&g.facts, p))
			n := 0
			for _, j := range lists[fmt.Sprint(family, p.Way)] {
				if !spaces[family].Has(j.set, p) {
					continue
				}
				n++
				if got := coarse(j.Verdict); got != want {
					t.Fatalf("seed %d: %s %v, Judge %s %v: %+v", seed, got.Action, got.Case, want.Action, want.Case, p)
				}
			}
			if n != 1 {
				t.Fatalf("seed %d: %d verdicts: %+v", seed, n, p)
			}
		}
	}
}

// Judge and the compiled rules decide alike on all packets of random gateways.
func TestRulesAreJudge(t *testing.T) {
	for seed := range worlds(t, 3) {
		g := randomGateway(seed)
		for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
			rs, ok := g.sets[family]
			if !ok {
				continue
			}
			w := NewFirewall(rs, g.facts.Marks, g.devices(), false)
			for _, way := range ways {
				for _, d := range w.differences(&g.facts, way) {
					t.Errorf("seed %d: %s", seed, d)
				}
			}
		}
	}
}

// differences are the packets on which the rules and Judge differ, one for each pair of
// verdicts.
func (w *Firewall) differences(f *firewall.Facts, way firewall.Way) []string {
	q := newSpec(w.Space, f, way)
	fate := w.Run(way, q.plain())
	var list []string
	for _, j := range q.judge(q.plain()) {
		for _, got := range fate.verdicts() {
			if coarse(got.Verdict) == coarse(j.Verdict) {
				continue
			}
			if set := w.And(j.set, got.set); set != None {
				p := w.Witness(way, set)
				list = append(list, fmt.Sprintf("rules %s %v, Judge %s %v: %+v", got.Action, got.Case, j.Action, j.Case, p))
			}
		}
	}
	slices.Sort(list)
	return list
}
