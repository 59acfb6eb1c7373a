package firewall

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// keyed is something with the prefix by which it is found, and its place in the
// order that decides. A place below 0 is none.
type keyed struct {
	key netip.Prefix
	at  int
	// sole tells that nothing else in the index has the prefix.
	sole bool
}

// keyIndex finds what has a prefix, or overlaps one.
type keyIndex struct {
	// sorted are all, by prefix and then by place.
	sorted []*keyed
	// lengths counts them by the bits of their prefix.
	lengths [129]int
}

func compareKeyed(a, b *keyed) int {
	if n := xfrm.ComparePrefix(a.key, b.key); n != 0 {
		return n
	}
	return cmp.Compare(a.at, b.at)
}

// renew takes out what has no place any more, and takes in what is new. The order
// of what stays must be what it was.
func (x *keyIndex) renew(added []*keyed) {
	if !slices.IsSortedFunc(added, compareKeyed) {
		slices.SortFunc(added, compareKeyed)
	}
	sorted := make([]*keyed, 0, len(x.sorted)+len(added))
	x.lengths = [129]int{}
	for _, k := range x.sorted {
		if k.at < 0 {
			continue
		}
		for len(added) > 0 && compareKeyed(added[0], k) < 0 {
			sorted, added = append(sorted, added[0]), added[1:]
		}
		sorted = append(sorted, k)
	}
	x.sorted = append(sorted, added...)
	for i, k := range x.sorted {
		x.lengths[k.key.Bits()]++
		if k.sole = true; i > 0 && x.sorted[i-1].key == k.key {
			k.sole, x.sorted[i-1].sole = false, false
		}
	}
}

// of are those with just that prefix, in the order of their places.
func (x *keyIndex) of(p netip.Prefix) []*keyed {
	from, _ := slices.BinarySearchFunc(x.sorted, p, func(k *keyed, p netip.Prefix) int { return xfrm.ComparePrefix(k.key, p) })
	end := from
	for end < len(x.sorted) && x.sorted[end].key == p {
		end++
	}
	return x.sorted[from:end]
}

// overlapping appends the places of what overlaps a prefix, in their order.
func (x *keyIndex) overlapping(places []int, p netip.Prefix) []int {
	first := len(places)
	for bits := range p.Bits() {
		if x.lengths[bits] == 0 {
			continue
		}
		for _, k := range x.of(netip.PrefixFrom(p.Addr(), bits).Masked()) {
			places = append(places, k.at)
		}
	}
	from, _ := slices.BinarySearchFunc(x.sorted, p, func(k *keyed, p netip.Prefix) int { return xfrm.ComparePrefix(k.key, p) })
	for _, k := range x.sorted[from:] {
		if !p.Contains(k.key.Addr()) {
			break
		}
		places = append(places, k.at)
	}
	slices.Sort(places[first:])
	return places
}
