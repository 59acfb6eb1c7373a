package program

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// Companion lays out the part of the table that stands beside the iptables engine,
// where the host has nf_tables: iptables has no hook behind SNAT and none before the
// NAT chains of other programs. It is the base chains post and nat with all that they
// lead to, so a change of the engine is a change of one table.
func Companion(f *firewall.Facts) sets.Table {
	return reachable(Table(f, Options{}), "post", "nat")
}

// reachable returns the table with only some base chains, and the chains and sets
// that these refer to.
func reachable(t sets.Table, bases ...string) sets.Table {
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

// Exempts reports whether a live table keeps tunnel traffic from NAT of a later priority,
// which is that of all programs known.
func Exempts(t sets.Table) bool {
	_, ok := t.Chain("nat")
	return ok && t.Flags&sets.Dormant == 0
}
