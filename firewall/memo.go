package firewall

import (
	"maps"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// memo keeps what was made of guards and claims, and the trees that were built
// from it, so that the next compilation makes only what has changed. What is
// kept is found by all that it was made from, so it can't be out of date. A nil
// memo keeps nothing.
type memo struct {
	marks  Marks
	guards map[guardMade]*guardRules
	claims map[claimMade]*claimRules
	// nodes are the subtrees by family, table and chain.
	nodes map[nodeKey]*subtree
	// places are the guards of the last compilation and their rules, by family.
	places map[Family]guardPlacesOf
	// ordered is what was made of the claims of the last compilation, by family.
	ordered map[Family][]*claimRules
	// usedGuards and usedClaims count what was used in this compilation.
	usedGuards, usedClaims int
	// spare are lists of entries that nobody needs any more in this compilation.
	spare [][]entry
	// pieces are the rules for known reqids, by their chain.
	pieces map[string]piece
	// turn counts compilations; what was not used in the last one is dropped.
	turn int
}

// guardMade is all that the rules of a guard are made from, where no connected
// network, no pierced one and no other local selector has a part in them.
type guardMade struct {
	Guard
	alone bool
}

// guardRules counts the rules of a guard in each of its places, plus one.
type guardRules struct {
	turn   int
	alone  bool
	counts [guardPlaces]uint8
}

// guardPlacesOf is guards and, in their order, what was made of them.
type guardPlacesOf struct {
	guards []Guard
	rules  []*guardRules
}

func (p guardPlacesOf) after() guardPlacesOf { return guardPlacesOf{p.guards[1:], p.rules[1:]} }

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

// claimMade is all that the rules of a claim are made from, besides the marks.
type claimMade struct {
	pair     xfrm.Pair
	policy   PolicyMatch
	untagged Purpose
	enforced bool
	tunnel   string
}

// claimRules counts the rules of a claim in each of its places, plus one.
type claimRules struct {
	turn int
	made claimMade
	// verify are those of cases 1 to 3, began and replied those of 1b.
	verify, began, replied uint8
	// owner are those of the only owner of a source.
	owner uint8
}

type nodeKey struct {
	family Family
	table  Table
	name   string
}

// subtree is the chain of a node and those below it.
type subtree struct {
	turn int
	by   direction
	// level is the node's own, which tells how many more may stand below it.
	level int
	// members are where the memo counts the rules of the node's entries, by which
	// they are known.
	members []*uint8
	chains  []Chain
}

// piece is the rules for some reqids.
type piece struct {
	turn   int
	reqids []uint32
	rules  Rules
}

// known returns the rules for a list of reqids as they were made earlier, or
// makes them. Where both families have a chain of that name, it is the same one.
func (m *memo) known(chain string, reqids []uint32, rules func() []Rule) Rules {
	if m == nil {
		return RulesOf(rules()...)
	}
	kept := m.pieces[chain]
	if !slices.Equal(kept.reqids, reqids) {
		kept = piece{reqids: reqids, rules: RulesOf(rules()...)}
	}
	kept.turn = m.turn
	m.pieces[chain] = kept
	return kept.rules
}

// begin readies the memo for a compilation.
func (m *memo) begin(marks Marks) {
	if m.guards == nil || m.marks != marks {
		*m = memo{
			marks: marks, turn: m.turn,
			guards: make(map[guardMade]*guardRules), claims: make(map[claimMade]*claimRules),
			nodes: make(map[nodeKey]*subtree), pieces: make(map[string]piece), places: make(map[Family]guardPlacesOf),
			ordered: make(map[Family][]*claimRules),
		}
	}
	m.turn++
	m.usedGuards, m.usedClaims = 0, 0
}

// end drops what was not used, once that is worth looking for.
func (m *memo) end() {
	m.spare = nil
	if many(len(m.guards), m.usedGuards) {
		maps.DeleteFunc(m.guards, func(_ guardMade, r *guardRules) bool { return r.turn != m.turn })
	}
	if many(len(m.claims), m.usedClaims) {
		maps.DeleteFunc(m.claims, func(_ claimMade, r *claimRules) bool { return r.turn != m.turn })
	}
	maps.DeleteFunc(m.pieces, func(_ string, p piece) bool { return p.turn != m.turn })
	for k, v := range m.nodes {
		if v.turn != m.turn {
			delete(m.nodes, k)
		}
	}
}

// many reports whether more is kept than was used, by enough to look through it.
func many(kept, used int) bool { return kept > used+used/8+64 }

// usedGuard notes that a guard's rules are of use still.
func (m *memo) usedGuard(r *guardRules) {
	if r.turn != m.turn {
		r.turn = m.turn
		m.usedGuards++
	}
}

// entries returns an empty list of entries with room for n.
func (m *memo) entries(n int) []entry {
	if m != nil {
		for i, list := range m.spare {
			if cap(list) >= n {
				m.spare = slices.Delete(m.spare, i, i+1)
				return list
			}
		}
	}
	return make([]entry, 0, n)
}

// done takes back a list of entries.
func (m *memo) done(entries []entry) {
	if m != nil && cap(entries) > 64 {
		clear(entries)
		m.spare = append(m.spare, entries[:0])
	}
}

// guard returns the place for a guard's rules, nil if they can't be kept.
func (m *memo) guard(g Guard, alone bool) *guardRules {
	if m == nil {
		return nil
	}
	// When it was seen is not part of any rule.
	g.Since, g.Expires = 0, 0
	key := guardMade{g, alone}
	r := m.guards[key]
	if r == nil {
		r = &guardRules{alone: alone}
		m.guards[key] = r
	}
	m.usedGuard(r)
	return r
}

// claim is guard for claims.
func (m *memo) claim(key claimMade) *claimRules {
	if m == nil {
		return &claimRules{made: key}
	}
	r := m.claims[key]
	if r == nil {
		r = &claimRules{made: key}
		m.claims[key] = r
	}
	m.usedClaim(r)
	return r
}

// usedClaim is usedGuard for claims.
func (m *memo) usedClaim(r *claimRules) {
	if r.turn != m.turn {
		r.turn = m.turn
		m.usedClaims++
	}
}

// claimsOf returns what was made of a family's claims in the last compilation, in
// their order.
func (m *memo) claimsOf(family Family) []*claimRules {
	if m == nil {
		return nil
	}
	return m.ordered[family]
}

// keepClaims is for claimsOf of the next compilation.
func (m *memo) keepClaims(family Family, claims []*claimRules) {
	if m != nil {
		m.ordered[family] = claims
	}
}

// recall returns the subtree of a node that has the same entries as before.
func (d *dispatcher) recall(name string, members []int, level int) []Chain {
	if d.memo == nil {
		return nil
	}
	kept := d.memo.nodes[nodeKey{d.family, d.table, name}]
	if kept == nil || kept.by != d.by || kept.level != level || len(kept.members) != len(members) {
		return nil
	}
	for at, i := range members {
		if e := &d.entries[i]; e.kept == nil || e.kept != kept.members[at] {
			return nil
		}
	}
	kept.turn = d.memo.turn
	d.memo.used(d, kept)
	return kept.chains
}

// used marks the nodes below one that was taken as it was.
func (m *memo) used(d *dispatcher, kept *subtree) {
	for _, c := range kept.chains {
		if below := m.nodes[nodeKey{d.family, d.table, c.Name}]; below != nil {
			below.turn = m.turn
		}
	}
}

// keep stores the subtree of a node.
func (d *dispatcher) keep(name string, members []int, level int, chains []Chain) {
	if d.memo == nil || len(members) == 0 {
		return
	}
	places := make([]*uint8, len(members))
	for at, i := range members {
		if places[at] = d.entries[i].kept; places[at] == nil {
			return
		}
	}
	d.memo.nodes[nodeKey{d.family, d.table, name}] = &subtree{
		turn: d.memo.turn, by: d.by, level: level, members: places, chains: slices.Clone(chains),
	}
}
