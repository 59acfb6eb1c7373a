package firewall

import (
	"crypto/sha256"
	"encoding/base64"
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
	entries []entry
	chains  []Chain
	memo    *memo
	scratch *scratch
}

// dispatch adds the chains of a tree; the first is named root and always exists.
func (b *builder) dispatch(table Table, root string, by direction, entries []entry) {
	b.tree(dispatcher{table: table, root: root, by: by, ordered: true, entries: entries})
}

// dispatchAnyOrder is dispatch for entries whose rules may be met in any order:
// none of them ends the way. Each rule then stands once.
func (b *builder) dispatchAnyOrder(table Table, root string, by direction, entries []entry) {
	b.tree(dispatcher{table: table, root: root, by: by, entries: entries})
}

func (b *builder) tree(d dispatcher) {
	d.family, d.memo, d.scratch = b.family, b.memo, &b.scratch
	b.set.Chains = append(b.set.Chains, d.tree()...)
	b.memo.done(d.entries)
}

func (d dispatcher) tree() []Chain {
	entries := d.entries
	all := make([]int, len(entries))
	for i := range all {
		all[i] = i
	}
	var space netip.Prefix
	if len(entries) > 0 {
		space = netip.PrefixFrom(entries[0].key.Addr(), 0).Masked()
	}
	if d.scratch == nil {
		d.scratch = new(scratch)
	}
	d.node(d.root, space, all, 0)
	return d.chains
}

// node appends the chain for the part of the address space that p covers, with
// the given entries, and the chains below it.
func (d *dispatcher) node(name string, p netip.Prefix, members []int, level int) {
	at := len(d.chains)
	if kept := d.recall(name, members, level); kept != nil {
		d.chains = append(d.chains, kept...)
		return
	}
	d.chains = append(d.chains, Chain{Table: d.table, Name: name})
	if row, ok := d.row(members); ok {
		d.chains[at].Rules = RulesOf(row...)
		d.keep(name, members, level, d.chains[at:])
		return
	}
	var groups []group
	rest := members
	if level < maxLevels {
		groups, rest = d.split(p, members)
	}
	var rules []Rule
	if len(groups) > 0 && len(rest) > 0 && !d.ordered {
		// A jump, so that the groups get the packet too.
		wide := d.root + "-W"
		if name != d.root {
			wide = nodeName(d.root+"W", p)
		}
		rules = append(rules, Rule{Target: Target{Verb: Jump, Chain: wide}, Purpose: PurposeDispatch})
		d.chains = append(d.chains, Chain{Table: d.table, Name: wide, Rules: RulesOf(d.rulesOf(rest)...)})
		rest = nil
	}
	for _, g := range groups {
		below := nodeName(d.root, g.prefix)
		rules = append(rules, d.jump(g.prefix, below))
		d.node(below, g.prefix, g.members, level+1)
	}
	if last := d.rulesOf(rest); len(rules) > 0 {
		d.chains[at].Rules = RulesOf(append(rules, last...)...)
	} else {
		d.chains[at].Rules = RulesOf(last...)
	}
	d.keep(name, members, level, d.chains[at:])
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

// split divides members into groups below p, and the rest that the node itself
// must try for what no group covers. Without groups all members are the rest.
func (d *dispatcher) split(p netip.Prefix, members []int) ([]group, []int) {
	// What covers the whole node is met below it too, so it doesn't count.
	n := 0
	for _, i := range members {
		if e := &d.entries[i]; e.key.Bits() > p.Bits() {
			n += e.count()
		}
	}
	leaf := d.leaf()
	if n <= leaf {
		return nil, members
	}
	// Fewer bits where there are few entries, so that chains are well filled. A full
	// row of sites has a power of two of them: where one more or less changed the
	// bits, one tunnel would have all of the row's chains made anew.
	step := min(4, max(1, bits.Len(uint(4*n/(5*leaf)))))
	depth := p.Bits() + step
	if common := d.common(members); common > p.Bits() {
		depth = common + step
	}
	if depth > p.Addr().BitLen() {
		return nil, members
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
		return nil, members
	}
	// Neighbours mostly come in order, so the last group is tried first.
	index := make(map[netip.Prefix]int, 1<<step)
	var groups []group
	last := -1
	for _, i := range narrow {
		key := d.entries[i].key.Addr()
		if last < 0 || !groups[last].prefix.Contains(key) {
			at, err := key.Prefix(depth)
			if err != nil {
				return nil, members // cannot be: depth fits the family
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
		return nil, members
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
	return groups, wide
}

// common is the number of leading bits that all members' keys share.
func (d *dispatcher) common(members []int) int {
	first := d.entries[members[0]].key
	shared := first.Bits()
	for _, i := range members[1:] {
		key := d.entries[i].key
		shared = min(shared, key.Bits(), commonBits(first.Addr(), key.Addr()))
	}
	return shared
}

func commonBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	n := 0
	for i := range x {
		if diff := x[i] ^ y[i]; diff != 0 {
			n += bits.LeadingZeros8(diff)
			break
		}
		n += 8
	}
	if a.Is4() {
		n -= 96
	}
	return n
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
