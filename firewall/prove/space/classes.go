package space

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/prove/bdd"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Classed is an address in a packet, or another value that prefixes divide. Its bits are
// the number of its class, because a class has fewer bits than an address, and a prefix is
// an interval of classes.
type Classed struct {
	Bits    Field
	classes *classes
}

// classes divide the values of a field: two are of one class if they lie in the same of
// some prefixes. The numbers of the classes in a prefix follow one another.
type classes struct {
	// nodes are the prefixes, sorted: each before those within it.
	nodes  []node
	places map[netip.Prefix]int
	// of has, by the number of a class, the innermost prefix around its values. The numbers
	// behind the last are other names of the last class.
	of   []int
	bits int
}

type node struct {
	netip.Prefix
	// parent is the next prefix around. First and last are the classes within, and own is
	// that of the values in no narrower prefix, of which value is one. It is invalid, and own
	// no class, where the narrower prefixes leave none.
	parent, first, last, own int
	value                    netip.Addr
}

// newClasses divides the values of a prefix by others within it.
func newClasses(root netip.Prefix, within []netip.Prefix) *classes {
	list := make([]netip.Prefix, 0, len(within)+1)
	for _, p := range append(slices.Clip(within), root) {
		list = append(list, p.Masked())
	}
	slices.SortFunc(list, xfrm.ComparePrefix)
	list = slices.Compact(list)
	c := &classes{nodes: make([]node, len(list)), places: make(map[netip.Prefix]int, len(list))}
	for i, p := range list {
		c.nodes[i].Prefix, c.places[p] = p, i
	}
	c.place(0, 0)
	c.bits = bdd.Bits(len(c.of))
	for i := range c.nodes {
		if c.nodes[i].last == len(c.of)-1 {
			c.nodes[i].last = 1<<c.bits - 1
		}
	}
	return c
}

// place numbers the classes within a node, its own last, and returns the next node that is
// not within.
func (c *classes) place(i, parent int) int {
	n := &c.nodes[i]
	n.parent, n.first = parent, len(c.of)
	free := n.Addr() // the first value behind the prefixes within that come so far
	next := i + 1
	for next < len(c.nodes) && n.Contains(c.nodes[next].Addr()) {
		within := c.nodes[next].Prefix
		n.take(free, within.Addr())
		next, free = c.place(next, i), prefix.Last(within).Next()
	}
	if n.Contains(free) {
		n.take(free, prefix.Last(n.Prefix).Next())
	}
	if n.value.IsValid() {
		n.own = len(c.of)
		c.of = append(c.of, i)
	}
	n.last = len(c.of) - 1
	return next
}

// take lets a node have a value from free on that lies before end, unless it has one. That
// of the network itself is taken where there is no other. An invalid end is behind all values.
func (n *node) take(free, end netip.Addr) {
	before := func(a netip.Addr) bool { return a.IsValid() && (!end.IsValid() || a.Less(end)) }
	if n.value.IsValid() && n.value != n.Addr() || !before(free) {
		return
	}
	if next := free.Next(); free == n.Addr() && before(next) {
		free = next
	}
	n.value = free
}

// number returns the class of a value.
func (c *classes) number(value netip.Addr) int {
	i, found := slices.BinarySearchFunc(c.nodes, prefix.Single(value), func(n node, p netip.Prefix) int { return xfrm.ComparePrefix(n.Prefix, p) })
	if !found {
		i--
	}
	for !c.nodes[i].Contains(value) {
		i = c.nodes[i].parent
	}
	return c.nodes[i].own
}

// value returns a value of a class.
func (c *classes) value(number int) netip.Addr {
	return c.nodes[c.of[min(number, len(c.of)-1)]].value
}

// root is the prefix of all values.
func (c *classes) root() netip.Prefix { return c.nodes[0].Prefix }

// numberPrefix stands for a number of 32 bits.
func numberPrefix(n uint32) netip.Prefix { return prefix.Single(numberAddr(n)) }

func numberAddr(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

// numberOf is the number for which an address stands.
func numberOf(a netip.Addr) uint32 {
	four := a.As4()
	return binary.BigEndian.Uint32(four[:])
}
