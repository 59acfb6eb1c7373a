package prefix

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Index finds those of many prefixes that overlap one, without a look at the others. Each
// prefix is known by its place in the list that the index was made from.
type Index struct {
	sorted []placed
	// lengths are those of the prefixes.
	lengths [129]bool
}

type placed struct {
	prefix netip.Prefix
	place  int
}

// NewIndex makes an index of n prefixes, of which of returns the one at a place. Those
// that are not valid are left out.
func NewIndex(n int, of func(place int) netip.Prefix) *Index {
	x := &Index{sorted: make([]placed, 0, n)}
	for place := range n {
		if p := of(place).Masked(); p.IsValid() {
			x.sorted = append(x.sorted, placed{p, place})
			x.lengths[p.Bits()] = true
		}
	}
	slices.SortStableFunc(x.sorted, func(a, b placed) int { return xfrm.ComparePrefix(a.prefix, b.prefix) })
	return x
}

// Overlapping returns the places of the prefixes that overlap p, in ascending order.
func (x *Index) Overlapping(p netip.Prefix) []int {
	if !p.IsValid() {
		return nil
	}
	p = p.Masked()
	var places []int
	for bits := range p.Bits() {
		if x.lengths[bits] {
			wider := netip.PrefixFrom(p.Addr(), bits).Masked()
			for at := x.search(wider); at < len(x.sorted) && x.sorted[at].prefix == wider; at++ {
				places = append(places, x.sorted[at].place)
			}
		}
	}
	// Those within p follow one another, from p itself on.
	for at := x.search(p); at < len(x.sorted) && p.Contains(x.sorted[at].prefix.Addr()); at++ {
		places = append(places, x.sorted[at].place)
	}
	slices.Sort(places)
	return places
}

// Within reports whether a prefix is p or a part of it.
func (x *Index) Within(p netip.Prefix) bool {
	if !p.IsValid() {
		return false
	}
	p = p.Masked()
	at := x.search(p)
	return at < len(x.sorted) && p.Contains(x.sorted[at].prefix.Addr())
}

// search returns where p is in the order, or would be.
func (x *Index) search(p netip.Prefix) int {
	at, _ := slices.BinarySearchFunc(x.sorted, p, func(e placed, p netip.Prefix) int { return xfrm.ComparePrefix(e.prefix, p) })
	return at
}
