package prefix

import (
	"math"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Last is the last address of a prefix.
func Last(p netip.Prefix) netip.Addr {
	a := p.Addr().AsSlice()
	for i := range a {
		switch host := 8*(i+1) - p.Bits(); {
		case host >= 8:
			a[i] = 0xff
		case host > 0:
			a[i] |= 1<<host - 1
		}
	}
	last, _ := netip.AddrFromSlice(a)
	return last
}

// Join returns the prefix of which two are the halves. The whole address
// space stays in halves, because a rule for all of it names no network.
func Join(a, b netip.Prefix) (netip.Prefix, bool) {
	if a.Bits() != b.Bits() || a.Bits() < 2 || a == b {
		return netip.Prefix{}, false
	}
	whole := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
	return whole, whole.Contains(b.Addr())
}

// OverlapsAny reports whether a prefix has addresses in common with one of some.
func OverlapsAny(p netip.Prefix, others []netip.Prefix) bool {
	return slices.ContainsFunc(others, p.Overlaps)
}

// Cover returns at most so many prefixes, none within another, that hold all
// the given ones. The widest is parted again and again, but only until the parts hold
// less than twice the addresses of the finest parting.
func Cover(keys []netip.Prefix, most int) []netip.Prefix {
	if len(keys) == 0 {
		return nil
	}
	if !slices.IsSortedFunc(keys, xfrm.ComparePrefix) {
		keys = slices.Clone(keys)
		slices.SortFunc(keys, xfrm.ComparePrefix)
	}
	var tried [][]netip.Prefix
	parts := []coverPart{{Common(keys), keys}}
	for {
		slices.SortStableFunc(parts, func(x, y coverPart) int { return x.cover.Bits() - y.cover.Bits() })
		tried = append(tried, make([]netip.Prefix, len(parts)))
		for i, p := range parts {
			tried[len(parts)-1][i] = p.cover
		}
		// A prefix as wide as its cover can't be parted.
		widest := slices.IndexFunc(parts, func(p coverPart) bool { return p.keys[0].Bits() != p.cover.Bits() })
		if widest < 0 || len(parts) == most {
			break
		}
		lower, upper := parts[widest].halves()
		parts[widest] = lower
		parts = append(parts, upper)
	}
	least := addressShare(tried[len(tried)-1])
	within := tried[slices.IndexFunc(tried, func(c []netip.Prefix) bool { return addressShare(c) < 2*least })]
	slices.SortFunc(within, xfrm.ComparePrefix)
	return within
}

// coverPart is some sorted prefixes and the narrowest one that holds them.
type coverPart struct {
	cover netip.Prefix
	keys  []netip.Prefix
}

// halves parts the prefixes at the first bit below their cover.
func (p coverPart) halves() (lower, upper coverPart) {
	low := netip.PrefixFrom(p.cover.Addr(), p.cover.Bits()+1)
	past, _ := slices.BinarySearchFunc(p.keys, low, func(k, low netip.Prefix) int {
		if low.Contains(k.Addr()) {
			return -1
		}
		return 1
	})
	lower.keys, upper.keys = p.keys[:past], p.keys[past:]
	lower.cover, upper.cover = Common(lower.keys), Common(upper.keys)
	return lower, upper
}

// addressShare is the part of all addresses that prefixes hold, from 0 to 1.
func addressShare(prefixes []netip.Prefix) float64 {
	sum := 0.0
	for _, p := range prefixes {
		sum += math.Ldexp(1, -p.Bits())
	}
	return sum
}

// Common is the narrowest prefix that holds all of some sorted ones. The first
// of them is the widest of those that begin where it does.
func Common(keys []netip.Prefix) netip.Prefix {
	first, last := keys[0], keys[len(keys)-1]
	return netip.PrefixFrom(first.Addr(), min(first.Bits(), CommonBits(first.Addr(), last.Addr()))).Masked()
}

// Set finds out which prefixes overlap one of its own.
type Set struct {
	sorted  []netip.Prefix
	has     map[netip.Prefix]bool
	lengths [129]bool
}

func NewSet(prefixes []netip.Prefix) *Set {
	s := &Set{has: make(map[netip.Prefix]bool, len(prefixes))}
	for _, p := range prefixes {
		if !s.has[p] {
			s.has[p], s.lengths[p.Bits()] = true, true
			s.sorted = append(s.sorted, p)
		}
	}
	slices.SortFunc(s.sorted, xfrm.ComparePrefix)
	return s
}

// Overlaps reports whether a prefix of the set lies within the masked prefix p, or
// holds it.
func (s *Set) Overlaps(p netip.Prefix) bool {
	at, _ := slices.BinarySearchFunc(s.sorted, p.Addr(), func(q netip.Prefix, a netip.Addr) int { return q.Addr().Compare(a) })
	if at < len(s.sorted) && p.Contains(s.sorted[at].Addr()) {
		return true
	}
	for length := range p.Bits() {
		if s.lengths[length] && s.has[netip.PrefixFrom(p.Addr(), length).Masked()] {
			return true
		}
	}
	return false
}
