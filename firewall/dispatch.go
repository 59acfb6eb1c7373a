package firewall

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
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
}

// leafSize is how many entries a chain holds before it is split. A packet
// passes at most about that many rules per level; more chains would make the
// load dearer, since iptables-nft's cost grows with the square of their number.
const leafSize = 16

// dispatcher lays entries out as a tree of chains over the address space, so
// that a packet meets the same few rules however many tunnels there are. Every
// node is left by a goto: exactly one chain is evaluated to its end, and it
// holds all entries that overlap its part of the address space, in the order in
// which they were given. So the first match is the right one whatever the
// order means.
type dispatcher struct {
	table Table
	root  string
	// bySource tells which address leads the way.
	bySource bool
	entries  []entry
	chains   []Chain
}

// dispatch returns the chains of a tree; the first is named root and always exists.
func dispatch(table Table, root string, bySource bool, entries []entry) []Chain {
	d := dispatcher{table: table, root: root, bySource: bySource, entries: entries}
	all := make([]int, len(entries))
	for i := range all {
		all[i] = i
	}
	var space netip.Prefix
	if len(entries) > 0 {
		space = netip.PrefixFrom(entries[0].key.Addr(), 0).Masked()
	}
	d.node(root, space, all)
	return d.chains
}

// node appends the chain for the part of the address space that p covers, with
// the given entries, and the chains below it.
func (d *dispatcher) node(name string, p netip.Prefix, members []int) {
	at := len(d.chains)
	d.chains = append(d.chains, Chain{Table: d.table, Name: name})
	groups, rest := d.split(p, members)
	var rules []Rule
	for _, g := range groups {
		below := nodeName(d.root, g.prefix)
		rules = append(rules, d.jump(g.prefix, below))
		d.node(below, g.prefix, g.members)
	}
	n := len(rules)
	for _, i := range rest {
		n += len(d.entries[i].rules)
	}
	rules = append(make([]Rule, 0, n), rules...)
	for _, i := range rest {
		rules = append(rules, d.entries[i].rules...)
	}
	d.chains[at].Rules = rules
}

func (d *dispatcher) jump(p netip.Prefix, chain string) Rule {
	r := Rule{Target: Target{Verb: Goto, Chain: chain}, Purpose: PurposeDispatch}
	if d.bySource {
		r.Src = p
	} else {
		r.Dst = p
	}
	return r
}

// group is a part of the address space with the entries that overlap it.
type group struct {
	prefix  netip.Prefix
	members []int
}

// split divides members into groups below p, and the rest that the node itself
// must try for what no group covers. Without groups all members are the rest.
func (d *dispatcher) split(p netip.Prefix, members []int) ([]group, []int) {
	n := len(members)
	if n <= leafSize {
		return nil, members
	}
	// Fewer bits where there are few entries, so that chains are well filled.
	step := min(4, max(1, bits.Len(uint(n/leafSize))))
	depth := p.Bits() + step
	if common := d.common(members); common > p.Bits() {
		depth = common + step
	}
	if depth > p.Addr().BitLen() {
		return nil, members
	}
	var wide, narrow []int
	for _, i := range members {
		if d.entries[i].key.Bits() < depth {
			wide = append(wide, i)
		} else {
			narrow = append(narrow, i)
		}
	}
	// Wide entries are copied into every group. Many of them overlap each other
	// for one and the same packet, so that no tree could part them.
	if len(wide) > leafSize {
		return nil, members
	}
	index := make(map[netip.Prefix]int, 1<<step)
	var prefixes []netip.Prefix
	for _, i := range narrow {
		at, err := d.entries[i].key.Addr().Prefix(depth)
		if err != nil {
			return nil, members // cannot be: depth fits the family
		}
		if _, ok := index[at]; !ok {
			index[at] = len(prefixes)
			prefixes = append(prefixes, at)
		}
	}
	if len(prefixes) < 2 && len(wide) == 0 {
		return nil, members
	}
	slices.SortFunc(prefixes, xfrm.ComparePrefix)
	groups := make([]group, len(prefixes))
	for g, at := range prefixes {
		groups[g].prefix = at
		index[at] = g
	}
	for _, i := range members {
		key := d.entries[i].key
		if key.Bits() >= depth {
			at, _ := key.Addr().Prefix(depth)
			g := &groups[index[at]]
			g.members = append(g.members, i)
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
	return root + "-" + base32.HexEncoding.EncodeToString(sum[:])[:12]
}
