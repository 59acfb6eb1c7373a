package ahead

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// stands reports whether every rule of a table is in other chains, in the same order.
func stands(want *sets.Table, chains []sets.Chain) bool {
	for _, c := range want.Chains {
		i := slices.IndexFunc(chains, func(o sets.Chain) bool { return o.Name == c.Name })
		if i < 0 || chains[i].Base != c.Base {
			return false
		}
		rest := chains[i].Rules
		for _, r := range c.Rules {
			i := slices.IndexFunc(rest, r.Identical)
			if i < 0 {
				return false
			}
			rest = rest[i+1:]
		}
	}
	return true
}

// elements returns the change of elements from an old to a wanted table, in a live one
// that holds more. It adds elements that the live one lacks, and deletes only elements
// that open. It returns false if a range is wanted that the live table lacks: ranges of
// others may overlap it.
func elements(live, old, want *sets.Table) (sets.Change, bool) {
	c := sets.Change{Table: live.Name}
	for _, s := range want.Sets {
		there, ok := live.Set(s.Name)
		if !ok {
			return sets.Change{}, false
		}
		if s.Dynamic {
			continue
		}
		lacks := slices.DeleteFunc(slices.Clone(s.Elements), there.Has)
		switch {
		case len(lacks) == 0:
		case s.Interval || s.Verdicts:
			return sets.Change{}, false
		case s.Opens:
			c.Shrink = append(c.Shrink, sets.AddElements{Set: s.Definition(), Elements: lacks})
		default:
			c.Grow = append(c.Grow, sets.AddElements{Set: s.Definition(), Elements: lacks})
		}
	}
	for _, s := range old.Sets {
		if !s.Opens || s.Dynamic || s.Interval {
			continue
		}
		there, ok := live.Set(s.Name)
		if !ok {
			continue
		}
		now, _ := want.Set(s.Name)
		gone := slices.DeleteFunc(slices.Clone(s.Elements), func(e sets.Element) bool { return now.Has(e) || !there.Has(e) })
		if len(gone) > 0 {
			c.Grow = append(c.Grow, sets.DeleteElements{Set: s.Definition(), Elements: gone})
		}
	}
	return c, true
}
