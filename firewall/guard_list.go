package firewall

import (
	"cmp"
	"net/netip"
)

// guardRules is a guard's place among all, and the number of its rules in each of
// its places in the trees, plus one.
type guardRules struct {
	keyed
	// plain tells that nothing but the guard itself has a part in its rules, and
	// alone that its destination alone decides.
	plain, alone bool
	counts       [guardPlaces]uint8
}

// guardPlace is a tree that guards have rules in.
type guardPlace uint8

const (
	inSpoof guardPlace = iota
	inInject
	inLeak
	inRefuse
	inError
	inQuotedBegan
	inQuotedReplied
	// Those of an exception that stand under its local selector.
	inNearBegan
	inNearReplied
	guardPlaces
)

// guardList is the guards of one family as they stood in a compilation.
type guardList struct {
	// guards are those of both families, standing this one's in their order.
	guards   []Guard
	standing []*guardRules
	// byRemote finds them by their remote selector; pierces are the places of the
	// exceptions.
	byRemote keyIndex
	pierces  []int
}

// findGuards finds out which of the guards are as they were: the same, and with the
// same rules.
func (b *builder) findGuards() {
	was := b.memo.guards[b.family]
	now := guardList{guards: b.all, standing: make([]*guardRules, 0, len(was.standing)+8), byRemote: was.byRemote}
	b.near = nil
	var added []*keyed
	var room []guardRules
	if len(was.standing) == 0 {
		room = make([]guardRules, len(b.all))
	}
	gone := func(r *guardRules) {
		b.touch(&was.guards[r.at])
		r.at = -1
	}
	rest := was.standing
	for i := range b.all {
		g := &b.all[i]
		if g.family() != b.family {
			continue
		}
		for len(rest) > 0 && !was.guards[rest[0].at].same(g) && compareInForce(&was.guards[rest[0].at], g) < 0 {
			gone(rest[0])
			rest = rest[1:]
		}
		var r *guardRules
		if len(rest) > 0 && was.guards[rest[0].at].same(g) {
			r, rest = rest[0], rest[1:]
			r.at = i
		} else {
			if len(room) == 0 {
				room = make([]guardRules, 1)
			}
			r, room = &room[0], room[1:]
			r.keyed = keyed{key: g.Remote.Masked(), at: i}
			added = append(added, &r.keyed)
		}
		if g.Pierce {
			now.pierces = append(now.pierces, i)
		}
		now.standing = append(now.standing, r)
	}
	for _, r := range rest {
		gone(r)
	}
	now.byRemote.renew(added)
	b.guardList = now
	b.memo.guards[b.family] = now
	b.plain = make([]*guardRules, len(b.all))
	for _, r := range now.standing {
		g := &b.all[r.at]
		alone := !g.Pierce && b.byDestinationAlone(*g)
		plain := g.Pierce || b.isPlain(*g, r.sole)
		if r.counts == [guardPlaces]uint8{} || !plain || !r.plain || r.alone != alone {
			b.touch(g)
			r.plain, r.alone, r.counts = plain, alone, [guardPlaces]uint8{}
		}
		if plain {
			b.plain[r.at] = r
		}
	}
}

// touch notes that a guard's rules are not as they were.
func (b *builder) touch(g *Guard) {
	b.touched = append(b.touched, g.Remote)
	if g.Pierce {
		b.near = append(b.near, g.Local)
	}
}

// compareInForce orders guards as allGuards does.
func compareInForce(a, b *Guard) int {
	if a.Source != b.Source {
		if n := cmpBool(a.Source == ConfigGuard, b.Source == ConfigGuard); n != 0 {
			return n
		}
		if n := cmp.Compare(a.Priority, b.Priority); n != 0 {
			return n
		}
		if n := cmpBool(a.Source == MemoryGuard, b.Source == MemoryGuard); n != 0 {
			return n
		}
	}
	return compareGuards(a, b)
}

// isPlain reports whether neither a connected network nor another local selector
// of its tunnel has a part in a guard's rules. Sole tells that no other guard has
// its remote selector.
func (b *builder) isPlain(g Guard, sole bool) bool {
	return (!b.hasLANSpots(&g) || len(b.lanSpots(g)) == 0) && (g.Local.Bits() == 0 || sole || len(b.siblings(g)) == 1)
}

// kept is where the rules of guard i for a place are counted, nil if they are not
// kept. Chains that they lead to are not part of it.
func (b *builder) kept(i int, place guardPlace) *uint8 {
	if b.plain == nil || b.plain[i] == nil {
		return nil
	}
	return &b.plain[i].counts[place]
}

// guardsIn are the places of the guards whose remote selectors overlap a prefix, in
// their order, in memory that the next call overwrites.
func (b *builder) guardsIn(p netip.Prefix) []int {
	places := b.scratch.places[:0]
	if p.Bits() > 0 {
		places = b.byRemote.overlapping(places, p)
	} else {
		for _, r := range b.standing {
			places = append(places, r.at)
		}
	}
	b.scratch.places = places
	return places
}
