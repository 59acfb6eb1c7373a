// Package prune leaves out of a table the parts that decide nothing.
package prune

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// Table leaves out sets without elements, rules that look a packet up in them, chains
// without rules and the jumps to them, so that a listing of the table has the rest alone.
// It keeps the base chains and the sets that packets fill.
func Table(t sets.Table) sets.Table {
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
	return Reachable(t, bases...)
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
				r.Terms[i] = sets.Verdict{Do: sets.Return}
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

// Reachable returns the table with only some base chains, and the chains and sets
// that these refer to.
func Reachable(t sets.Table, bases ...string) sets.Table {
	chains, used := make(map[string]bool), make(map[string]bool)
	var visit func(name string)
	visit = func(name string) {
		c, ok := t.Chain(name)
		if !ok || chains[name] {
			return
		}
		chains[name] = true
		for _, r := range c.Rules {
			for _, term := range r.Terms {
				switch term := term.(type) {
				case sets.Verdict:
					visit(term.Chain)
				case sets.In:
					used[term.Set] = true
				case sets.Update:
					used[term.Set] = true
				case sets.Dispatch:
					used[term.Map] = true
					s, _ := t.Set(term.Map)
					for _, e := range s.Elements {
						visit(e.Verdict.Chain)
					}
				}
			}
		}
	}
	for _, name := range bases {
		visit(name)
	}
	t.Chains = slices.DeleteFunc(slices.Clone(t.Chains), func(c sets.Chain) bool { return !chains[c.Name] })
	t.Sets = slices.DeleteFunc(slices.Clone(t.Sets), func(s sets.Set) bool { return !used[s.Name] })
	return t
}
