package firewall

import (
	"maps"
	"net/netip"
	"slices"
)

// memo keeps what was made of guards and claims in the last compilation, and the
// trees that were built from it, so that the next one makes only what has changed:
// it finds out which guards and claims are not as they were, and looks at no part
// of a tree but those that they are in.
type memo struct {
	marks  Marks
	guards map[Family]guardList
	claims map[Family]claimList
	trees  map[treeKey]tree
	survey survey
	shapes map[Family]shape
	// pieces are the rules for known reqids, by their chain.
	pieces map[string]piece
	// turn counts compilations.
	turn int
}

// begin readies the memo for a compilation.
func (m *memo) begin(marks Marks) {
	if m.trees == nil || m.marks != marks {
		*m = memo{
			marks: marks, turn: m.turn,
			guards: make(map[Family]guardList), claims: make(map[Family]claimList),
			trees: make(map[treeKey]tree), pieces: make(map[string]piece), shapes: make(map[Family]shape),
		}
	}
	m.turn++
}

// end drops the trees and chains that were not built.
func (m *memo) end() {
	maps.DeleteFunc(m.pieces, func(_ string, p piece) bool { return p.turn != m.turn })
	for k, t := range m.trees {
		if t.turn != m.turn {
			delete(m.trees, k)
		}
	}
}

type treeKey struct {
	family Family
	table  Table
	root   string
}

// tree is one as it was built last.
type tree struct {
	turn int
	root *branch
	// loose are the keys of the entries of which nobody knows whether they are the
	// same the next time.
	loose []netip.Prefix
}

// stand is the entries of a tree.
type stand struct {
	// in appends those that overlap a prefix, in their order.
	in func(list []entry, p netip.Prefix) []entry
	// touched are the keys of those that are not as they were in the last
	// compilation, or not there any more.
	touched []netip.Prefix
	// loose are as in tree.
	loose []netip.Prefix
}

// grow adds the chains of a tree, as dispatch and dispatchAnyOrder do, and makes
// only what is not as it was.
func (b *builder) grow(table Table, root string, by direction, ordered bool, s stand) {
	key := treeKey{b.family, table, root}
	d := dispatcher{
		family: b.family, table: table, root: root, by: by, ordered: ordered, scratch: &b.scratch,
		in: s.in, entries: b.scratch.entries[:0],
	}
	was := b.memo.trees[key]
	now := tree{turn: b.memo.turn, loose: s.loose}
	if was.turn == now.turn-1 && was.root != nil {
		now.root = d.renew(was.root, slices.Concat(s.touched, s.loose, was.loose))
	} else {
		space := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if b.family != familyOf(space.Addr()) {
			space = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		now.root = d.node(root, space, d.fetch(space), 0, nil, nil)
	}
	b.memo.trees[key] = now
	b.set.Chains = now.root.chains(b.set.Chains)
	clear(d.entries)
	b.scratch.entries = d.entries[:0]
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
	kept, is := m.pieces[chain]
	if !is || !slices.Equal(kept.reqids, reqids) {
		kept = piece{reqids: reqids, rules: RulesOf(rules()...)}
	}
	kept.turn = m.turn
	m.pieces[chain] = kept
	return kept.rules
}
