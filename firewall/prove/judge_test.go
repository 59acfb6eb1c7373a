package prove

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/prove/judge"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// coarse is a verdict without the details that the sets leave out.
func coarse(v firewall.Verdict) firewall.Verdict {
	switch {
	case v.Action == firewall.Admit, v.Action == firewall.Leave:
		v.Case = firewall.NoCase
	case v.Case == firewall.Case8d:
		v.Case = firewall.Case8
	case v.Case == firewall.Case8e: // a stranger whom lockdown drops
		v.Case = firewall.NoCase
	}
	return v
}

// Judge over sets gives each packet the verdict of Judge.
func TestJudgeOverSetsIsJudge(t *testing.T) {
	const packets = 300
	for g := range randomGateways(t, 3) {
		maker := fake.NewPassages(rand.New(rand.NewPCG(1, 9)), g.in, &g.facts)
		lists := make(map[string][]judge.Judged)
		spaces := make(map[xfrm.Family]*space.Space)
		for family := range g.sets {
			spaces[family] = space.New(family, &g.facts, Values(g.in), false)
			for _, way := range ways {
				lists[fmt.Sprint(family, way)] = judge.New(spaces[family], &g.facts, way).Verdicts(space.All)
			}
		}
		for range packets {
			p := fake.WithOneSA(maker.Next())
			family := xfrm.FamilyOf(p.Received.Src)
			want := coarse(firewall.Judge(&g.facts, p))
			n := 0
			for _, j := range lists[fmt.Sprint(family, p.Way)] {
				if !spaces[family].Has(j.Set, p) {
					continue
				}
				n++
				if got := coarse(j.Verdict); got != want {
					t.Fatalf("%s: %s %v, Judge %s %v: %+v", g.name, got.Action, got.Case, want.Action, want.Case, p)
				}
			}
			if n != 1 {
				t.Fatalf("%s: %d verdicts: %+v", g.name, n, p)
			}
		}
	}
}

// Judge and the compiled rules decide alike on all packets of gateways.
func TestRulesAreJudge(t *testing.T) {
	for g := range gateways(t, 1, 2) {
		for _, family := range g.families {
			w := g.firewall(family)
			for _, way := range ways {
				for _, d := range differences(w, &g.facts, way) {
					t.Errorf("%s: %s", g.name, d)
				}
			}
		}
	}
}

// differences are the packets on which the rules and Judge differ, one for each pair of
// verdicts.
func differences(w *evaluate.Firewall, f *firewall.Facts, way firewall.Way) []string {
	q := judge.New(w.Space, f, way)
	fate := w.Run(way, q.Plain())
	var list []string
	for _, j := range q.Verdicts(q.Plain()) {
		for _, got := range verdicts(&fate) {
			if coarse(got.Verdict) == coarse(j.Verdict) {
				continue
			}
			set := w.And(j.Set, got.Set)
			if got.Case == firewall.Case6 {
				set = w.Minus(set, q.BetweenRemotes())
			}
			if set != space.None {
				p := w.Witness(way, set)
				list = append(list, fmt.Sprintf("rules %s %v, Judge %s %v: %+v", got.Action, got.Case, j.Action, j.Case, p))
			}
		}
	}
	slices.Sort(list)
	return list
}

// Judge over sets gives the packets that were once judged wrongly their verdict.
func TestFaultsAreJudged(t *testing.T) {
	for _, fault := range faults() {
		if len(fault.Passage.Path) > 1 || len(fault.Passage.Ahead) > 1 {
			continue
		}
		g := newGateway(fault.Name, fault.Input)
		s := space.New(xfrm.FamilyOf(fault.Passage.Received.Src), &g.facts, Values(g.in), false)
		for _, j := range judge.New(s, &g.facts, fault.Passage.Way).Verdicts(space.All) {
			if got := coarse(j.Verdict); s.Has(j.Set, fault.Passage) && got != coarse(fault.Want) {
				t.Errorf("%s: %s %v, want %s %v", g.name, got.Action, got.Case, fault.Want.Action, fault.Want.Case)
			}
		}
	}
}

// verdicts are the packets by verdict, those that are accepted or left without a case.
func verdicts(f *evaluate.Fate) []judge.Judged {
	list := []judge.Judged{
		{Verdict: firewall.Verdict{Action: firewall.Leave}, Set: f.Left}, {Verdict: firewall.Verdict{Action: firewall.Admit}, Set: f.Accepted},
	}
	for c, set := range f.Discarded {
		list = append(list, judge.Judged{Verdict: firewall.Verdict{Action: firewall.Discard, Case: c}, Set: set})
	}
	for c, set := range f.Refused {
		list = append(list, judge.Judged{Verdict: firewall.Verdict{Action: firewall.Refuse, Case: c}, Set: set})
	}
	return list
}
