package rules

import "slices"

// Prune takes out of a rule set the rules without effect: jumps to chains
// without rules, and chains that nothing leads to. So a layout may have parts that a host
// does not use. It changes no chain's rules in place, because a cache may hold them too.
func Prune(rs *Ruleset) {
	p := pruner{rs: rs, index: make(map[ChainKey]int, len(rs.Chains)), seen: make([]bool, len(rs.Chains))}
	for i, c := range rs.Chains {
		p.index[ChainKey{c.Table, c.Name}] = i
	}
	for _, h := range rs.Hooks {
		p.visit(ChainKey{h.Table, h.To})
	}
	clear(p.seen)
	for _, h := range rs.Hooks {
		p.mark(ChainKey{h.Table, h.To})
	}
	kept := rs.Chains[:0]
	for i, c := range rs.Chains {
		if p.seen[i] {
			kept = append(kept, c)
		}
	}
	clear(rs.Chains[len(kept):])
	rs.Chains = kept
}

type pruner struct {
	rs    *Ruleset
	index map[ChainKey]int
	seen  []bool
}

// visit prunes a chain after all that it leads to.
func (p *pruner) visit(at ChainKey) {
	i, ok := p.index[at]
	if !ok || p.seen[i] {
		return
	}
	p.seen[i] = true
	c := &p.rs.Chains[i]
	useless := false
	for _, name := range c.Rules.Leads() {
		to := ChainKey{at.Table, name}
		p.visit(to)
		useless = useless || p.inert(to)
	}
	if !useless {
		return
	}
	n := c.Rules.Len()
	c.Rules = ListOf(slices.DeleteFunc(c.Rules.Slice(), func(r Rule) bool {
		n--
		// A goto ends the chain for the packets that it matches, unless it is at its end.
		ends := r.Target.Verb == Goto && n > 0
		return r.Leads() && !ends && p.inert(ChainKey{at.Table, r.Target.Chain})
	})...)
}

// inert reports whether all rules of a chain leave it.
func (p *pruner) inert(at ChainKey) bool {
	i, ok := p.index[at]
	return ok && p.rs.Chains[i].Rules.Inert()
}

func (p *pruner) mark(at ChainKey) {
	i, ok := p.index[at]
	if !ok || p.seen[i] {
		return
	}
	p.seen[i] = true
	for _, name := range p.rs.Chains[i].Rules.Leads() {
		p.mark(ChainKey{at.Table, name})
	}
}
