package firewall

import "slices"

// prune takes out of a rule set what no packet would notice: jumps to chains
// without rules, and chains that nothing leads to. So the builder need not ask
// which of its parts a host has any use for.
func prune(rs *Ruleset) {
	index := make(map[chainKey]int, len(rs.Chains))
	for i, c := range rs.Chains {
		index[chainKey{c.Table, c.Name}] = i
	}
	reached := make(map[chainKey]bool, len(rs.Chains))
	var visit func(chainKey)
	visit = func(at chainKey) {
		i, ok := index[at]
		if !ok || reached[at] {
			return
		}
		reached[at] = true
		c := &rs.Chains[i]
		n := len(c.Rules)
		c.Rules = slices.DeleteFunc(c.Rules, func(r Rule) bool {
			n--
			to := chainKey{at.table, r.Target.Chain}
			switch r.Target.Verb {
			case Jump:
			case Goto:
				if n > 0 && inert(rs, index, to) {
					return false // it ends the chain for what it matches
				}
			default:
				return false
			}
			visit(to)
			return inert(rs, index, to)
		})
	}
	for _, h := range rs.Hooks {
		visit(chainKey{h.Table, h.To})
	}
	clear(reached)
	for _, h := range rs.Hooks {
		mark(rs, index, reached, chainKey{h.Table, h.To})
	}
	rs.Chains = slices.DeleteFunc(rs.Chains, func(c Chain) bool { return !reached[chainKey{c.Table, c.Name}] })
}

// inert reports whether a chain has no rule but such as leave it.
func inert(rs *Ruleset, index map[chainKey]int, at chainKey) bool {
	i, ok := index[at]
	return ok && !slices.ContainsFunc(rs.Chains[i].Rules, func(r Rule) bool { return r.Target.Verb != Return })
}

func mark(rs *Ruleset, index map[chainKey]int, reached map[chainKey]bool, at chainKey) {
	i, ok := index[at]
	if !ok || reached[at] {
		return
	}
	reached[at] = true
	for _, r := range rs.Chains[i].Rules {
		if r.Target.Verb == Jump || r.Target.Verb == Goto {
			mark(rs, index, reached, chainKey{at.table, r.Target.Chain})
		}
	}
}
