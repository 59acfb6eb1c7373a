package firewall

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// prefixSet finds out which prefixes overlap any of its own.
type prefixSet struct {
	sorted  []netip.Prefix
	has     map[netip.Prefix]bool
	lengths [129]bool
}

func (s *prefixSet) add(p netip.Prefix) {
	if s.has == nil {
		s.has = make(map[netip.Prefix]bool)
	}
	if !s.has[p] {
		s.has[p], s.lengths[p.Bits()] = true, true
		s.sorted = append(s.sorted, p)
	}
}

func (s *prefixSet) sort() { slices.SortFunc(s.sorted, xfrm.ComparePrefix) }

// overlaps reports whether any of the set lies within the masked prefix p, or holds it.
func (s *prefixSet) overlaps(p netip.Prefix) bool {
	at, _ := slices.BinarySearchFunc(s.sorted, p.Addr(), func(q netip.Prefix, a netip.Addr) int { return q.Addr().Compare(a) })
	if at < len(s.sorted) && p.Contains(s.sorted[at].Addr()) {
		return true
	}
	for bits := range p.Bits() {
		if s.lengths[bits] && s.has[netip.PrefixFrom(p.Addr(), bits).Masked()] {
			return true
		}
	}
	return false
}
