package firewall

import (
	"net/netip"
	"slices"
)

// branch is a node of a tree and what grows from it. Nobody writes to one that is
// done, so trees of several compilations may share it.
type branch struct {
	name   string
	prefix netip.Prefix
	level  int
	// chain is the node's own, wide the one beside it for what overlaps many parts.
	chain, wide Chain
	// depth is the length of the groups' prefixes, 0 without groups, and groups are
	// in the order of their prefixes.
	depth  int
	groups []*branch
	// within sums up the entries whose keys lie within the prefix.
	within sum
	// rest sums up those that no group covers, restWithin those of them whose keys
	// lie within the prefix.
	rest, restWithin sum
}

// sum is what a node's shape depends on, of some entries.
type sum struct {
	// entries and rules count them and their rules.
	entries, rules int
	// whole counts the rules of those whose key is the whole node.
	whole int
	// cover is the narrowest prefix that holds their keys, none without entries.
	cover netip.Prefix
}

func (s *sum) hold(p netip.Prefix) {
	switch {
	case !p.IsValid():
	case !s.cover.IsValid():
		s.cover = p
	default:
		bits := min(s.cover.Bits(), p.Bits())
		if !netip.PrefixFrom(s.cover.Addr(), bits).Contains(p.Addr()) {
			bits = commonBits(s.cover.Addr(), p.Addr())
		}
		if bits < s.cover.Bits() {
			s.cover = netip.PrefixFrom(s.cover.Addr(), bits).Masked()
		}
	}
}

// add is for what lies below: none of it is the whole node.
func (s *sum) add(below sum) {
	s.entries += below.entries
	s.rules += below.rules
	s.hold(below.cover)
}

// sumUp sums up members of a node, those whose keys lie within p only if within is
// set.
func (d *dispatcher) sumUp(p netip.Prefix, members []int, within bool) sum {
	var s sum
	for _, i := range members {
		e := &d.entries[i]
		if within && e.key.Bits() < p.Bits() {
			continue
		}
		n := e.count()
		s.entries++
		s.rules += n
		if e.key.Bits() <= p.Bits() {
			s.whole += n
		}
		s.hold(e.key)
	}
	return s
}

// touches reports whether an entry of the part of the address space that p covers
// is not as it was.
func (d *dispatcher) touches(touched []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(touched, func(k netip.Prefix) bool { return d.concerns(k, p) })
}

// concerns reports whether an entry with that key is a member of the group p.
func (d *dispatcher) concerns(k, p netip.Prefix) bool {
	return (d.ordered || k.Bits() >= p.Bits()) && k.Overlaps(p)
}

// renew returns the branch as it is now that some entries are not as they were:
// those with the touched keys, all of which concern it.
func (d *dispatcher) renew(old *branch, touched []netip.Prefix) *branch {
	if len(touched) == 0 {
		return old
	}
	made := d.regroup(old, touched)
	if made == nil {
		return d.node(old.name, old.prefix, d.fetch(old.prefix), old.level, old, touched)
	}
	return made
}

// regroup is renew for a branch whose groups are the same parts of the address
// space. It returns nil if they are not.
func (d *dispatcher) regroup(old *branch, touched []netip.Prefix) *branch {
	if old.depth == 0 || slices.ContainsFunc(touched, func(k netip.Prefix) bool { return k.Bits() < old.depth }) {
		return nil
	}
	made := *old
	made.groups = make([]*branch, 0, len(old.groups)+1)
	same := true
	parts := d.parts(touched, old.depth)
	for _, g := range old.groups {
		for len(parts) > 0 && parts[0].prefix.Addr().Less(g.prefix.Addr()) {
			if b := d.fresh(parts[0], old.level+1); b.within.entries > 0 {
				made.groups, same = append(made.groups, b), false
			}
			parts = parts[1:]
		}
		if len(parts) > 0 && parts[0].prefix == g.prefix {
			g = d.renew(g, parts[0].keys)
			parts = parts[1:]
		}
		if g.within.entries > 0 {
			made.groups = append(made.groups, g)
		} else {
			same = false
		}
	}
	for _, p := range parts {
		if b := d.fresh(p, old.level+1); b.within.entries > 0 {
			made.groups, same = append(made.groups, b), false
		}
	}
	all := old.rest
	made.within = old.restWithin
	for _, g := range made.groups {
		all.add(g.within)
		made.within.add(g.within)
	}
	if depth, ok := d.depth(old.prefix, all); !ok || depth != old.depth || len(made.groups) < 2 && old.rest.entries == 0 {
		return nil
	}
	if all.entries <= mostJoined {
		if _, ok := d.row(d.fetch(old.prefix)); ok {
			return nil
		}
	}
	if !same {
		d.fill(&made)
	}
	return &made
}

// touchedPart is a part of the address space and the touched keys in it.
type touchedPart struct {
	prefix netip.Prefix
	keys   []netip.Prefix
}

// parts sorts keys by the parts of that length that they are in.
func (d *dispatcher) parts(touched []netip.Prefix, depth int) []touchedPart {
	var parts []touchedPart
	for _, k := range touched {
		p := netip.PrefixFrom(k.Addr(), depth).Masked()
		at, ok := slices.BinarySearchFunc(parts, p, func(t touchedPart, p netip.Prefix) int { return t.prefix.Addr().Compare(p.Addr()) })
		if !ok {
			parts = slices.Insert(parts, at, touchedPart{prefix: p})
		}
		parts[at].keys = append(parts[at].keys, k)
	}
	return parts
}

// fresh makes the branch of a group that was not there.
func (d *dispatcher) fresh(p touchedPart, level int) *branch {
	return d.node(nodeName(d.root, p.prefix), p.prefix, d.fetch(p.prefix), level, nil, nil)
}

// fetch returns the entries that are members of the node of a prefix.
func (d *dispatcher) fetch(p netip.Prefix) []int {
	from := len(d.entries)
	d.entries = d.in(d.entries, p)
	members := make([]int, 0, len(d.entries)-from)
	for i := from; i < len(d.entries); i++ {
		if d.concerns(d.entries[i].key, p) {
			members = append(members, i)
		}
	}
	return members
}

// fill makes the rules of a branch with groups.
func (d *dispatcher) fill(b *branch) {
	var rest []int
	if b.rest.entries > 0 && d.ordered {
		rest = slices.DeleteFunc(d.fetch(b.prefix), func(i int) bool { return d.entries[i].key.Bits() >= b.depth })
	}
	b.chain.Rules = d.leading(b, rest)
}

// leading are the rules of a branch with groups, and with entries that none of them
// covers.
func (d *dispatcher) leading(b *branch, rest []int) Rules {
	var rules []Rule
	if b.wide.Name != "" {
		// A jump, so that the groups get the packet too.
		rules = append(rules, Rule{Target: Target{Verb: Jump, Chain: b.wide.Name}, Purpose: PurposeDispatch})
	}
	for _, g := range b.groups {
		rules = append(rules, d.jump(g.prefix, g.name))
	}
	return RulesOf(append(rules, d.rulesOf(rest)...)...)
}

// chains appends those of a branch.
func (b *branch) chains(list []Chain) []Chain {
	list = append(list, b.chain)
	if b.wide.Name != "" {
		list = append(list, b.wide)
	}
	for _, g := range b.groups {
		list = g.chains(list)
	}
	return list
}
