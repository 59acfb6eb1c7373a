// Package bdd holds sets of bit vectors as reduced ordered binary decision diagrams
// with complemented edges (Bryant 1986; Brace, Rudell, Bryant 1990). Equal sets are
// equal values.
package bdd

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// Set is a set of bit vectors of one Space.
type Set uint32

// All and None are the set of all vectors and the empty one, of every space.
const (
	All  Set = 0
	None Set = 1
)

// Not returns the complement of a set.
func (a Set) Not() Set { return a ^ 1 }

// node decides by one bit. The edge for 1 is never complemented, so that each set has
// one form.
type node struct {
	bit       uint32
	zero, one Set
}

// Space holds the nodes of its sets. It only grows; it is not for concurrent use.
type Space struct {
	nodes []node
	// table finds a node by its fields: places in nodes, 0 for none, by open
	// addressing. Its length is a power of two.
	table []uint32
	// cache remembers results of And. An entry may be overwritten.
	cache []product
}

type product struct{ a, b, result Set }

// terminal is the bit of the node that decides nothing.
const terminal = ^uint32(0)

const (
	firstTable = 1 << 12
	maxCache   = 1 << 21
)

// New returns a space without sets but All and None.
func New() *Space {
	return &Space{
		nodes: []node{{bit: terminal}}, table: make([]uint32, firstTable), cache: make([]product, firstTable),
	}
}

// Len is the number of nodes, which tells the memory that the space takes.
func (s *Space) Len() int { return len(s.nodes) }

// Bit returns the vectors in which a bit is set. Bits with low numbers decide first.
func (s *Space) Bit(bit int) Set { return s.make(uint32(bit), None, All) }

// Choose returns the vectors of one where a bit is set, and of zero where it is not.
// Both must depend on later bits only.
func (s *Space) Choose(bit int, one, zero Set) Set { return s.make(uint32(bit), zero, one) }

func (s *Space) make(bit uint32, zero, one Set) Set {
	if zero == one {
		return zero
	}
	if one&1 != 0 {
		return s.find(bit, zero.Not(), one.Not()).Not()
	}
	return s.find(bit, zero, one)
}

func hash(a, b, c uint32) uint32 {
	h := uint64(a)*0x9e3779b97f4a7c15 ^ uint64(b)*0xc2b2ae3d27d4eb4f ^ uint64(c)*0x165667b19e3779f9
	h ^= h >> 29
	h *= 0xbf58476d1ce4e5b9
	return uint32(h >> 32)
}

func (s *Space) find(bit uint32, zero, one Set) Set {
	mask := uint32(len(s.table) - 1)
	at := hash(bit, uint32(zero), uint32(one)) & mask
	for ; s.table[at] != 0; at = (at + 1) & mask {
		if n := &s.nodes[s.table[at]]; n.bit == bit && n.zero == zero && n.one == one {
			return Set(s.table[at] << 1)
		}
	}
	i := uint32(len(s.nodes))
	s.nodes = append(s.nodes, node{bit, zero, one})
	s.table[at] = i
	if 3*len(s.nodes) > 2*len(s.table) {
		s.grow()
	}
	return Set(i << 1)
}

func (s *Space) grow() {
	s.table = make([]uint32, 2*len(s.table))
	mask := uint32(len(s.table) - 1)
	for i := 1; i < len(s.nodes); i++ {
		n := &s.nodes[i]
		at := hash(n.bit, uint32(n.zero), uint32(n.one)) & mask
		for s.table[at] != 0 {
			at = (at + 1) & mask
		}
		s.table[at] = uint32(i)
	}
	if len(s.cache) < maxCache {
		s.cache = make([]product, 2*len(s.cache))
	}
}

// halves returns the vectors of a set without a bit and with it, where the bit is not
// later than the first that decides.
func (s *Space) halves(a Set, bit uint32) (zero, one Set) {
	n := &s.nodes[a>>1]
	if n.bit != bit {
		return a, a
	}
	return n.zero ^ a&1, n.one ^ a&1
}

// And returns the vectors of both sets.
func (s *Space) And(a, b Set) Set {
	switch {
	case a == None || b == None || a == b.Not():
		return None
	case a == All || a == b:
		return b
	case b == All:
		return a
	}
	if a > b {
		a, b = b, a
	}
	at := hash(uint32(a), uint32(b), 0) & uint32(len(s.cache)-1)
	if c := &s.cache[at]; c.a == a && c.b == b {
		return c.result
	}
	bit := min(s.nodes[a>>1].bit, s.nodes[b>>1].bit)
	a0, a1 := s.halves(a, bit)
	b0, b1 := s.halves(b, bit)
	zero, one := s.And(a0, b0), s.And(a1, b1)
	var result Set
	switch { // often one lies in the other, and no node need be found
	case zero == a0 && one == a1:
		result = a
	case zero == b0 && one == b1:
		result = b
	default:
		result = s.make(bit, zero, one)
	}
	s.cache[hash(uint32(a), uint32(b), 0)&uint32(len(s.cache)-1)] = product{a, b, result}
	return result
}

// Or returns the vectors of either set.
func (s *Space) Or(a, b Set) Set { return s.And(a.Not(), b.Not()).Not() }

// Minus returns the vectors of a set that another lacks.
func (s *Space) Minus(a, b Set) Set { return s.And(a, b.Not()) }

// Within reports whether all vectors of a set are in another.
func (s *Space) Within(a, b Set) bool { return s.Minus(a, b) == None }

// Union returns the vectors of any of the sets. It joins them by halves.
func (s *Space) Union(sets ...Set) Set {
	switch len(sets) {
	case 0:
		return None
	case 1:
		return sets[0]
	}
	half := len(sets) / 2
	return s.Or(s.Union(sets[:half]...), s.Union(sets[half:]...))
}

// Without returns the vectors that are in the set with some value of the bits that
// forget names: the set as it is seen without these bits.
func (s *Space) Without(a Set, forget func(bit int) bool) Set {
	seen := make(map[Set]Set)
	var walk func(a Set) Set
	walk = func(a Set) Set {
		if a>>1 == 0 {
			return a
		}
		if r, ok := seen[a]; ok {
			return r
		}
		bit := s.nodes[a>>1].bit
		zero, one := s.halves(a, bit)
		zero, one = walk(zero), walk(one)
		r := None
		if forget(int(bit)) {
			r = s.Or(zero, one)
		} else {
			r = s.make(bit, zero, one)
		}
		seen[a] = r
		return r
	}
	return walk(a)
}

// Has reports whether a vector, given by its bits, is in the set.
func (s *Space) Has(a Set, bit func(bit int) bool) bool {
	for a>>1 != 0 {
		zero, one := s.halves(a, s.nodes[a>>1].bit)
		if bit(int(s.nodes[a>>1].bit)) {
			a = one
		} else {
			a = zero
		}
	}
	return a == All
}

// Pick returns a vector of a set that is not empty, as the bits from 0. Each bit is
// as prefer says, by the bits before it, where the set has such a vector.
func (s *Space) Pick(a Set, n int, prefer func(bit int, before []bool) bool) []bool {
	vector := make([]bool, n)
	for i := range n {
		vector[i] = prefer(i, vector[:i])
		if s.nodes[a>>1].bit != uint32(i) {
			continue
		}
		zero, one := s.halves(a, uint32(i))
		if vector[i] && one == None || !vector[i] && zero == None {
			vector[i] = !vector[i]
		}
		a = zero
		if vector[i] {
			a = one
		}
	}
	return vector
}

// Number returns the vectors in which the bits, the most significant first, are those
// of a number. The bits must ascend.
func (s *Space) Number(field []int, n uint64) Set {
	set := All
	for i := len(field) - 1; i >= 0; i-- {
		set = s.literal(field[i], n&1 != 0, set)
		n >>= 1
	}
	return set
}

// Prefix returns the vectors in which the first bits of a field are those of an
// address.
func (s *Space) Prefix(field []int, address []byte, length int) Set {
	set := All
	for i := length - 1; i >= 0; i-- {
		set = s.literal(field[i], address[i/8]>>(7-i%8)&1 != 0, set)
	}
	return set
}

// Literal is a bit that has a value.
type Literal struct {
	Bit int
	Is  bool
}

// Cube returns the vectors in which all bits have their values. It sorts the literals.
func (s *Space) Cube(literals []Literal) Set {
	slices.SortFunc(literals, func(a, b Literal) int { return b.Bit - a.Bit })
	set := All
	for i, l := range literals {
		switch {
		case i == 0 || literals[i-1].Bit != l.Bit:
			set = s.literal(l.Bit, l.Is, set)
		case literals[i-1].Is != l.Is:
			return None
		}
	}
	return set
}

func (s *Space) literal(bit int, is bool, rest Set) Set {
	if is {
		return s.Choose(bit, rest, None)
	}
	return s.Choose(bit, None, rest)
}

// Range returns the vectors in which a field of at most 64 bits is a number from lo to hi.
func (s *Space) Range(field []int, lo, hi uint64) Set {
	shift := 64 - len(field)
	return s.Between(field, binary.BigEndian.AppendUint64(nil, lo<<shift), binary.BigEndian.AppendUint64(nil, hi<<shift))
}

// Between returns the vectors in which a field, the most significant bit first, is a
// number from lo to hi, given by their bytes.
func (s *Space) Between(field []int, lo, hi []byte) Set {
	return s.And(s.bounded(field, lo, true), s.bounded(field, hi, false))
}

// bounded returns the vectors in which a field is at least, or at most, a number.
func (s *Space) bounded(field []int, n []byte, least bool) Set {
	set := All
	for i := len(field) - 1; i >= 0; i-- {
		is := n[i/8]>>(7-i%8)&1 != 0
		switch {
		case is && least:
			set = s.Choose(field[i], set, None)
		case least:
			set = s.Choose(field[i], All, set)
		case is:
			set = s.Choose(field[i], set, All)
		default:
			set = s.Choose(field[i], None, set)
		}
	}
	return set
}

// Bits is how many bits tell n things apart.
func Bits(n int) int { return bits.Len(uint(max(n-1, 1))) }

// Prefixes calls yield with the prefixes of a field that a set is divided by, as their
// bytes and lengths, and with the rest of the set below each. The field's bits ascend, and
// no bit before them decides. It stops, and returns false, when yield does.
func (s *Space) Prefixes(a Set, field []int, yield func(value []byte, bits int, rest Set) bool) bool {
	value := make([]byte, (len(field)+7)/8)
	var walk func(a Set, i int) bool
	walk = func(a Set, i int) bool {
		if a == None {
			return true
		}
		if i == len(field) || s.nodes[a>>1].bit > uint32(field[len(field)-1]) {
			return yield(slices.Clone(value), i, a)
		}
		zero, one := s.halves(a, uint32(field[i]))
		if !walk(zero, i+1) {
			return false
		}
		value[i/8] |= 1 << (7 - i%8)
		on := walk(one, i+1)
		value[i/8] &^= 1 << (7 - i%8)
		return on
	}
	return walk(a, 0)
}
