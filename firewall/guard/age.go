package guard

import (
	"cmp"
	"math"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// ages has the indexes of the policies of those priorities that an exception has too:
// there the older policy decides (net/xfrm/xfrm_policy.c, xfrm_policy_insert_list). Other
// guards of equal priority decide alike in any order.
type ages map[uint32]map[guardKey]uint32

func agesOf(set xfrm.Set) ages {
	a := make(ages)
	for i := range set.Exceptions {
		a[set.Exceptions[i].Priority] = make(map[guardKey]uint32)
	}
	for i := range set.Tunnels {
		for _, p := range set.Tunnels[i].Pairs {
			if p.OptionalDirs != 0 {
				a[p.Priority] = make(map[guardKey]uint32)
			}
		}
	}
	return a
}

// note records the index of the policy that guards stand for.
func (a ages) note(guards []Guard, index uint32) {
	for i := range guards {
		g := &guards[i]
		known, ok := a[g.Priority]
		if !ok {
			continue
		}
		if before, ok := known[g.key()]; !ok || index < before {
			known[g.key()] = index
		}
	}
}

// sort brings runs of equal priority that hold an exception, of guards in order, into
// the order of age.
func (a ages) sort(guards []Guard) {
	for from := 0; from < len(guards); {
		to := from + 1
		for to < len(guards) && guards[to].Priority == guards[from].Priority {
			to++
		}
		if known, ok := a[guards[from].Priority]; ok {
			age := func(g *Guard) uint32 {
				if index, ok := known[g.key()]; ok {
					return index
				}
				return math.MaxUint32 // no policy stands for it
			}
			sortGuards(guards[from:to], func(x, y *Guard) int { return cmp.Compare(age(x), age(y)) })
		}
		from = to
	}
}
