package firewall

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// entry is some rules that can only match packets whose address lies in key.
type entry struct {
	key   netip.Prefix
	rules []Rule
	// kept is where a memo counts the rules, plus one: the same place says that
	// they are the same rules as in an earlier compilation. They need not be made
	// then unless the chain that they stand in is, by remake of of.
	kept   *uint8
	of     int
	remake func(of int) []Rule
}

// count is how many rules the entry has.
func (e *entry) count() int {
	if e.rules == nil && e.kept != nil {
		return int(*e.kept) - 1
	}
	return len(e.rules)
}

// all are the entry's rules.
func (e *entry) all() []Rule {
	if e.rules == nil && e.count() > 0 {
		return e.remake(e.of)
	}
	return e.rules
}

// keptEntry is an entry whose rules remake makes; they are counted at kept, where
// 0 says that nobody has yet. Without kept they can't be known again.
func keptEntry(key netip.Prefix, kept *uint8, of int, remake func(of int) []Rule) entry {
	if kept == nil {
		return entry{key: key, rules: remake(of)}
	}
	e := entry{key: key, kept: kept, of: of, remake: remake}
	if *kept == 0 {
		e.rules = remake(of)
		if len(e.rules) >= math.MaxUint8 {
			e.kept = nil
			return e
		}
		*kept = uint8(len(e.rules)) + 1
	}
	return e
}

// leafSize is how many rules a chain holds before it is split. A packet passes
// at most about that many per level; more chains would make the load dearer,
// since iptables-nft's cost grows with the square of their number.
const leafSize = 32

// maxWide is how many entries are copied into all groups of a node at most.
const maxWide = 16

// maxLevels bounds a tree's depth: nftables follows 15 jumps and gotos at most,
// and whoever chooses prefixes to make one branch deep only slows that branch.
const maxLevels = 7

// dispatcher lays entries out as a tree of chains over the address space, so
// that a packet meets the same few rules however many tunnels there are. Every
// node is left by a goto: exactly one chain is evaluated to its end, and it
// holds all entries that overlap its part of the address space, in the order in
// which they were given. So the first match is the right one whatever the
// order means.
type dispatcher struct {
	family Family
	table  Table
	root   string
	// by is the address that leads the way.
	by direction
	// ordered tells that the order of the entries means something; otherwise
	// those that overlap many parts stand once, in a chain of their own.
	ordered bool
	// in appends the entries that overlap a prefix, in their order; entries are
	// those that were asked for so far.
	in      func(list []entry, p netip.Prefix) []entry
	entries []entry
	scratch *scratch
}

// dispatch adds the chains of a tree; the first is named root and always exists.
func (b *builder) dispatch(table Table, root string, by direction, entries []entry) {
	d := dispatcher{family: b.family, table: table, root: root, by: by, ordered: true, scratch: &b.scratch}
	b.set.Chains = append(b.set.Chains, d.tree(entries)...)
}

// dispatchAnyOrder is dispatch for entries whose rules may be met in any order:
// none of them ends the way. Each rule then stands once.
func (b *builder) dispatchAnyOrder(table Table, root string, by direction, entries []entry) {
	d := dispatcher{family: b.family, table: table, root: root, by: by, scratch: &b.scratch}
	b.set.Chains = append(b.set.Chains, d.tree(entries)...)
}

// tree are the chains of a tree of some entries.
func (d *dispatcher) tree(entries []entry) []Chain {
	d.entries = entries
	all := make([]int, len(entries))
	for i := range all {
		all[i] = i
	}
	var space netip.Prefix
	if len(entries) > 0 {
		space = netip.PrefixFrom(entries[0].key.Addr(), 0).Masked()
	}
	return d.node(d.root, space, all, 0, nil, nil).chains(nil)
}

// node makes the branch for the part of the address space that p covers, of the
// given entries. What was there before, if not nil, is of use where no key is
// touched.
func (d *dispatcher) node(name string, p netip.Prefix, members []int, level int, was *branch, touched []netip.Prefix) *branch {
	b := &branch{name: name, prefix: p, level: level, chain: Chain{Table: d.table, Name: name}}
	b.within = d.sumUp(p, members, true)
	if row, ok := d.row(members); ok {
		b.chain.Rules = RulesOf(row...)
		return b
	}
	var groups []group
	rest := members
	if level < maxLevels {
		b.depth, groups, rest = d.split(p, members)
	}
	if len(groups) == 0 {
		b.chain.Rules = RulesOf(d.rulesOf(rest)...)
		return b
	}
	b.rest, b.restWithin = d.sumUp(p, rest, false), d.sumUp(p, rest, true)
	if len(rest) > 0 && !d.ordered {
		b.wide = Chain{Table: d.table, Name: d.root + "-W"}
		if name != d.root {
			b.wide.Name = nodeName(d.root+"W", p)
		}
		b.wide.Rules = RulesOf(d.rulesOf(rest)...)
		rest = nil
	}
	b.groups = make([]*branch, 0, len(groups))
	for _, g := range groups {
		below := was.group(g.prefix)
		if below == nil || d.touches(touched, g.prefix) {
			below = d.node(nodeName(d.root, g.prefix), g.prefix, g.members, level+1, below, touched)
		}
		b.groups = append(b.groups, below)
	}
	b.chain.Rules = d.leading(b, rest)
	return b
}

// group returns the branch of a group, or nil.
func (b *branch) group(p netip.Prefix) *branch {
	if b == nil || b.depth != p.Bits() {
		return nil
	}
	at, ok := slices.BinarySearchFunc(b.groups, p, func(g *branch, p netip.Prefix) int { return g.prefix.Addr().Compare(p.Addr()) })
	if !ok {
		return nil
	}
	return b.groups[at]
}

// rulesOf returns the rules of entries, in memory that the next call overwrites.
func (d *dispatcher) rulesOf(members []int) []Rule {
	n := 0
	for _, i := range members {
		n += d.entries[i].count()
	}
	rules := d.scratch.rules.room(n)
	for _, i := range members {
		rules = append(rules, d.entries[i].all()...)
	}
	return d.joined(rules)
}

func (d *dispatcher) jump(p netip.Prefix, chain string) Rule {
	r := Rule{Target: Target{Verb: Goto, Chain: chain}, Purpose: PurposeDispatch}
	*d.at(&r) = p
	return r
}

// direction is the address of a packet, or of the flow that it is about, by
// which a tree parts.
type direction uint8

const (
	bySource direction = iota
	byDestination
	byOrigSrc
	byReplSrc
	// rare is added where few packets ever come: the leaves may then be longer.
	rare direction = 1 << 7
)

// leaf is how many rules need not be parted.
func (d *dispatcher) leaf() int {
	if d.by&rare != 0 {
		return 4 * leafSize
	}
	return leafSize
}

// group is a part of the address space with the entries that overlap it.
type group struct {
	prefix  netip.Prefix
	members []int
	// size is how many members lie within, before they are known.
	size int
}

// depth is how long the prefixes of a node's groups are, for all of its entries. It
// reports false if they need not or can't be parted.
func (d *dispatcher) depth(p netip.Prefix, all sum) (int, bool) {
	// What covers the whole node is met below it too, so it doesn't count.
	n, leaf := all.rules-all.whole, d.leaf()
	if n <= leaf {
		return 0, false
	}
	// Fewer bits where there are few entries, so that chains are well filled. A full
	// row of sites has a power of two of them: where one more or less changed the
	// bits, one tunnel would have all of the row's chains made anew.
	depth := max(p.Bits(), all.cover.Bits()) + min(4, max(1, bits.Len(uint(4*n/(5*leaf)))))
	return depth, depth <= p.Addr().BitLen()
}

// split divides members into groups below p, whose prefixes have that length, and
// the rest that the node itself must try for what no group covers. Without groups
// all members are the rest.
func (d *dispatcher) split(p netip.Prefix, members []int) (int, []group, []int) {
	depth, ok := d.depth(p, d.sumUp(p, members, false))
	if !ok {
		return 0, nil, members
	}
	var wide []int
	narrow := make([]int, 0, len(members))
	for _, i := range members {
		if d.entries[i].key.Bits() < depth {
			wide = append(wide, i)
		} else {
			narrow = append(narrow, i)
		}
	}
	// Wide entries are copied into every group. Many of them overlap each other
	// for one and the same packet, so that no tree could part them.
	if d.ordered && len(wide) > maxWide {
		return 0, nil, members
	}
	// Neighbours mostly come in order, so the last group is tried first.
	index := make(map[netip.Prefix]int, 16)
	var groups []group
	last := -1
	for _, i := range narrow {
		key := d.entries[i].key.Addr()
		if last < 0 || !groups[last].prefix.Contains(key) {
			at, err := key.Prefix(depth)
			if err != nil {
				return 0, nil, members // cannot be: depth fits the family
			}
			found, ok := index[at]
			if last = found; !ok {
				last = len(groups)
				index[at] = last
				groups = append(groups, group{prefix: at})
			}
		}
		groups[last].size++
	}
	if len(groups) < 2 && len(wide) == 0 {
		return 0, nil, members
	}
	slices.SortFunc(groups, func(a, b group) int { return xfrm.ComparePrefix(a.prefix, b.prefix) })
	copies := 0
	if d.ordered {
		copies = len(wide)
	}
	room := make([]int, 0, len(narrow)+copies*len(groups))
	for g := range groups {
		at, end := len(room), len(room)+groups[g].size+copies
		groups[g].members, room = room[at:at:end], room[:end]
		index[groups[g].prefix] = g
	}
	last = 0
	for _, i := range members {
		key := d.entries[i].key
		if key.Bits() >= depth {
			if !groups[last].prefix.Contains(key.Addr()) {
				at, _ := key.Addr().Prefix(depth)
				last = index[at]
			}
			g := &groups[last]
			g.members = append(g.members, i)
			continue
		}
		if !d.ordered {
			continue
		}
		for g := range groups {
			if key.Overlaps(groups[g].prefix) {
				groups[g].members = append(groups[g].members, i)
			}
		}
	}
	return depth, groups, wide
}

func commonBits(a, b netip.Addr) int {
	if a.Is4() {
		x, y := a.As4(), b.As4()
		return bits.LeadingZeros32(binary.BigEndian.Uint32(x[:]) ^ binary.BigEndian.Uint32(y[:]))
	}
	x, y := a.As16(), b.As16()
	if high := binary.BigEndian.Uint64(x[:8]) ^ binary.BigEndian.Uint64(y[:8]); high != 0 {
		return bits.LeadingZeros64(high)
	}
	return 64 + bits.LeadingZeros64(binary.BigEndian.Uint64(x[8:])^binary.BigEndian.Uint64(y[8:]))
}

// nodeName names the chain of a node so that it depends on nothing but the root
// and the prefix, and stays within the 28 bytes of a chain name.
func nodeName(root string, p netip.Prefix) string {
	if p.Addr().Is4() {
		a := p.Addr().As4()
		return root + "-" + hex.EncodeToString(a[:]) + "-" + strconv.Itoa(p.Bits())
	}
	a := p.Addr().As16()
	sum := sha256.Sum256(append(a[:], byte(p.Bits())))
	// 72 bits: a peer that chooses prefixes must not find two with one name.
	return root + "-" + base64.RawURLEncoding.EncodeToString(sum[:])[:12]
}
