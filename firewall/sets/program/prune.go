package program

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// prune leaves out what decides nothing, so that a person who lists the table finds the
// rest: sets without elements, rules that look a packet up in them, chains without rules
// and the jumps to them. It keeps the base chains and the sets that packets fill.
func prune(t sets.Table) sets.Table {
	empty := make(map[string]bool)
	for i := range t.Sets {
		s := &t.Sets[i]
		empty[s.Name] = !s.Dynamic && len(s.Elements) == 0
	}
	for i := range t.Chains {
		for j := range t.Chains[i].Rules {
			for _, term := range t.Chains[i].Rules[j].Terms {
				if in, ok := term.(sets.In); ok && in.Not {
					empty[in.Set] = false // a look-up that fails to load a field is no match either
				}
			}
		}
	}
	var bases []string
	for more := true; more; {
		more = false
		void := make(map[string]bool)
		for i := range t.Chains {
			c := &t.Chains[i]
			void[c.Name] = c.Base.Type == sets.Regular && len(c.Rules) == 0
		}
		for i := range t.Chains {
			c := &t.Chains[i]
			kept := c.Rules[:0:0]
			for _, r := range c.Rules {
				if r, keep := withoutVoid(r, empty, void); keep {
					kept = append(kept, r)
				}
			}
			more = more || len(kept) < len(c.Rules)
			c.Rules = kept
		}
	}
	for i := range t.Chains {
		if t.Chains[i].Base.Type != sets.Regular {
			bases = append(bases, t.Chains[i].Name)
		}
	}
	return reachable(t, bases...)
}

// withoutVoid returns a rule without the jump to a chain without rules, and false if the
// rule never matches or does nothing.
func withoutVoid(r sets.Rule, emptySets, voidChains map[string]bool) (sets.Rule, bool) {
	for i, term := range r.Terms {
		switch term := term.(type) {
		case sets.In:
			if emptySets[term.Set] {
				return r, false
			}
		case sets.Dispatch:
			if emptySets[term.Map] {
				return r, false
			}
		case sets.Verdict:
			if !voidChains[term.Chain] {
				continue
			}
			r.Terms = slices.Clone(r.Terms)
			if term.Do == sets.Goto {
				r.Terms[i] = back
				return r, true
			}
			r.Terms = r.Terms[:i]
			return r, slices.ContainsFunc(r.Terms, acts)
		}
	}
	return r, true
}

// acts reports whether a term does more than to match.
func acts(t sets.Term) bool {
	switch t.(type) {
	case sets.Match, sets.Range, sets.OneOf, sets.In:
		return false
	}
	return true
}
