package firewall

import "slices"

// shape is how one family's chains led to each other in a compilation. As long as
// they do so, the same of them are of use, in the same order.
type shape struct {
	// built are the chains as they were built, hooks what led to them.
	built []Chain
	hooks []Hook
	// kept are the places of those of use, in the order of Rulesets.
	kept []int
	// cut are the rules of those that prune took rules from, by their place.
	cut map[int]Rules
}

// finish sorts the chains that were built and prunes them.
func (b *builder) finish() {
	b.set.Family = b.family
	was := b.memo.shapes[b.family]
	built := b.set.Chains
	if !was.fits(b.set) {
		b.memo.shapes[b.family] = b.shape()
		return
	}
	b.set.Chains = make([]Chain, len(was.kept))
	for i, at := range was.kept {
		c := built[at]
		if cut, ok := was.cut[at]; ok {
			c.Rules = cut
		}
		b.set.Chains[i] = c
	}
	was.built = built
	b.memo.shapes[b.family] = was
}

// fits reports whether chains lead to each other as they did.
func (s *shape) fits(set Ruleset) bool {
	built := set.Chains
	if len(s.built) != len(built) || !slices.Equal(s.hooks, set.Hooks) {
		return false
	}
	for i := range built {
		was, now := &s.built[i], &built[i]
		if was.Name != now.Name || was.Table != now.Table {
			return false
		}
		if was.Rules.list == now.Rules.list {
			continue
		}
		if _, ok := s.cut[i]; ok && !was.Rules.equal(now.Rules) {
			return false
		}
		if was.Rules.inert() != now.Rules.inert() || !slices.Equal(was.Rules.leads(), now.Rules.leads()) {
			return false
		}
	}
	return true
}

// shape sorts and prunes, and returns what came of it.
func (b *builder) shape() shape {
	s := shape{built: b.set.Chains, hooks: b.set.Hooks, cut: make(map[int]Rules)}
	order := make([]int, len(s.built))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(x, y int) int { return compareChains(s.built[x], s.built[y]) })
	b.set.Chains = make([]Chain, len(order))
	for i, at := range order {
		b.set.Chains[i] = s.built[at]
	}
	prune(&b.set)
	rest := order
	for _, c := range b.set.Chains {
		for s.built[rest[0]].Name != c.Name || s.built[rest[0]].Table != c.Table {
			rest = rest[1:]
		}
		at := rest[0]
		rest = rest[1:]
		s.kept = append(s.kept, at)
		if s.built[at].Rules.list != c.Rules.list {
			s.cut[at] = c.Rules
		}
	}
	return s
}
