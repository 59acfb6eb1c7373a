// Package tree builds trees of chains by prefixes, so that a packet passes few rules of
// many. Equal entries give equal chains.
package tree

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"

	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Spec says how a tree of chains parts the address space.
type Spec struct {
	Family xfrm.Family
	Table  rules.Table
	// Root is the name of the first chain; the names of all others begin with it.
	Root string
	// By is the address of a packet, or of its flow, that leads the way.
	By Direction
	// AnyOrder is true if the order of entries does not matter, because none of their
	// rules leaves the tree. Each rule then stands once.
	AnyOrder bool
	// Rare is true if few packets come. The leaves are then longer.
	Rare bool
	// Merge reports whether a rule may be merged with its neighbours: it depends on
	// no part of a tunnel but the address that leads the way, and leads to a chain
	// that leaves nothing on a packet. Nil is none.
	Merge func(*rules.Rule) bool
}

// Entry is rules that match only packets with an address in Key.
type Entry struct {
	Key   netip.Prefix
	Rules []rules.Rule
}

// Direction is the address by which a tree parts.
type Direction uint8

// The directions. OriginSource and ReplySource are the sources in the conntrack
// tuples of the packet's flow.
const (
	BySource Direction = iota
	ByDestination
	ByOriginSource
	ByReplySource
)

// Field is the part of a rule that has the address.
func (d Direction) Field(r *rules.Rule) *netip.Prefix {
	switch d {
	case ByDestination:
		return &r.Dst
	case ByOriginSource:
		return &r.Ct.OrigSrc
	case ByReplySource:
		return &r.Ct.ReplSrc
	}
	return &r.Src
}

const (
	// leafSize is how many rules a chain holds before it is split. A packet meets at
	// most about that many per level; more chains make the load dearer, because the
	// cost of iptables-nft grows with the square of their number.
	leafSize = 32
	// maxWide is how many entries are copied into all groups of a node at most.
	maxWide = 16
	// MaxLevels bounds the depth: nftables follows 15 jumps and gotos at most, and a
	// peer that chooses prefixes to make one branch deep only slows that branch.
	MaxLevels = 7
)

// Build lays entries out as a tree of chains over the address space, so that a
// packet meets the same few rules however many tunnels there are. Each node is left
// by a goto: one chain is evaluated to its end, and it holds all entries that overlap
// its part of the address space, in the order given. So the first match is the right
// one with any meaning of the order. The root always exists.
func Build(s Spec, entries []Entry) []rules.Chain {
	t := tree{Spec: s, entries: entries}
	all := make([]int, len(entries))
	for i := range all {
		all[i] = i
	}
	var space netip.Prefix
	if len(entries) > 0 {
		space = netip.PrefixFrom(entries[0].Key.Addr(), 0).Masked()
	}
	t.node(s.Root, space, all, 0)
	return t.chains
}

type tree struct {
	Spec
	entries []Entry
	chains  []rules.Chain
}

func (t *tree) chain(name string, list []rules.Rule) {
	t.chains = append(t.chains, rules.Chain{Table: t.Table, Name: name, Rules: rules.ListOf(list...)})
}

// node adds the chain for the part of the address space that p covers, and those
// below it. Members are the entries that overlap it.
func (t *tree) node(name string, p netip.Prefix, members []int, level int) {
	if rules, ok := t.mergedIfFew(members); ok {
		t.chain(name, rules)
		return
	}
	var groups []group
	rest := members
	if level < MaxLevels {
		groups, rest = t.split(p, members)
	}
	if len(groups) == 0 {
		t.chain(name, t.rulesOf(rest))
		return
	}
	var list []rules.Rule
	if len(rest) > 0 && t.AnyOrder {
		wide := t.Root + "-W"
		if name != t.Root {
			wide = NodeName(t.Root+"W", p)
		}
		t.chain(wide, t.rulesOf(rest))
		// A jump, so that the groups get the packet too.
		list = append(list, rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: wide}, Purpose: rules.PurposeDispatch})
		rest = nil
	}
	for _, g := range groups {
		below := NodeName(t.Root, g.prefix)
		lead := rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: below}, Purpose: rules.PurposeDispatch}
		*t.By.Field(&lead) = g.prefix
		list = append(list, lead)
		t.node(below, g.prefix, g.members, level+1)
	}
	t.chain(name, append(list, t.rulesOf(rest)...))
}

// rulesOf returns the rules of entries, merged where they may be.
func (t *tree) rulesOf(members []int) []rules.Rule {
	var rules []rules.Rule
	for _, i := range members {
		rules = append(rules, t.entries[i].Rules...)
	}
	if t.Merge == nil {
		return rules
	}
	return t.mergeAdjacent(rules)
}

// leaf is how many rules need not be parted.
func (t *tree) leaf() int {
	if t.Rare {
		return 4 * leafSize
	}
	return leafSize
}

// group is a part of the address space with the entries that overlap it.
type group struct {
	prefix  netip.Prefix
	members []int
}

// depth is the length of the prefixes of a node's groups. It reports false if the
// members need not or can't be parted.
func (t *tree) depth(p netip.Prefix, members []int) (int, bool) {
	n := 0
	var cover netip.Prefix
	for _, i := range members {
		e := &t.entries[i]
		// An entry for the whole node is met below it too, so it does not count.
		if e.Key.Bits() > p.Bits() {
			n += len(e.Rules)
		}
		cover = commonPrefixOf(cover, e.Key)
	}
	leaf := t.leaf()
	if n <= leaf {
		return 0, false
	}
	// Few entries take fewer bits, so that chains are well filled. A full row of
	// sites has a power of two of them; the margin keeps one site more or less from
	// changing the bits and thereby all of the row's chains.
	depth := max(p.Bits(), cover.Bits()) + min(4, max(1, bits.Len(uint(4*n/(5*leaf)))))
	return depth, depth <= p.Addr().BitLen()
}

// commonPrefixOf is the narrowest prefix that holds two, the first of which may be
// invalid for none.
func commonPrefixOf(a, b netip.Prefix) netip.Prefix {
	if !a.IsValid() {
		return b
	}
	length := min(a.Bits(), b.Bits())
	if !netip.PrefixFrom(a.Addr(), length).Contains(b.Addr()) {
		length = prefix.CommonBits(a.Addr(), b.Addr())
	}
	return netip.PrefixFrom(a.Addr(), min(length, a.Bits())).Masked()
}

// split divides members into groups below p, and the rest that the node itself holds
// for packets of no group. Without groups all members are the rest.
func (t *tree) split(p netip.Prefix, members []int) ([]group, []int) {
	depth, ok := t.depth(p, members)
	if !ok {
		return nil, members
	}
	var wide []int
	index := make(map[netip.Prefix]int)
	var groups []group
	for _, i := range members {
		key := t.entries[i].Key
		if key.Bits() < depth {
			wide = append(wide, i)
			continue
		}
		at := netip.PrefixFrom(key.Addr(), depth).Masked()
		if _, ok := index[at]; !ok {
			index[at] = len(groups)
			groups = append(groups, group{prefix: at})
		}
	}
	// Wide entries are copied into every group. Many of them overlap each other for
	// the same packet, so no tree can part them.
	if !t.AnyOrder && len(wide) > maxWide || len(groups) < 2 && len(wide) == 0 {
		return nil, members
	}
	slices.SortFunc(groups, func(a, b group) int { return xfrm.ComparePrefix(a.prefix, b.prefix) })
	for i := range groups {
		index[groups[i].prefix] = i
	}
	for _, i := range members {
		key := t.entries[i].Key
		if key.Bits() >= depth {
			g := &groups[index[netip.PrefixFrom(key.Addr(), depth).Masked()]]
			g.members = append(g.members, i)
			continue
		}
		for j := range groups {
			if !t.AnyOrder && key.Overlaps(groups[j].prefix) {
				groups[j].members = append(groups[j].members, i)
			}
		}
	}
	return groups, wide
}

// NodeName names the chain of a node by the root and the prefix alone, within the 28
// bytes of a chain name.
func NodeName(root string, p netip.Prefix) string {
	if p.Addr().Is4() {
		a := p.Addr().As4()
		return root + "-" + hex.EncodeToString(a[:]) + "-" + strconv.Itoa(p.Bits())
	}
	a := p.Addr().As16()
	sum := sha256.Sum256(append(a[:], byte(p.Bits())))
	// 72 bits: a peer that chooses prefixes must not find two with one name.
	return root + "-" + base64.RawURLEncoding.EncodeToString(sum[:])[:12]
}
