// Package prefix calculates with prefixes of addresses.
package prefix

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Single returns the prefix of one address.
func Single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// Covers reports whether an address lies in a prefix. The zero prefix covers all.
func Covers(p netip.Prefix, a netip.Addr) bool { return !p.IsValid() || p.Contains(a) }

// CommonBits counts the leading bits that two addresses of one family share.
func CommonBits(a, b netip.Addr) int {
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

// OuterIn reports whether an outer address lies in a prefix of the inner packet's
// family, as the kernel compares them: both as the union xfrm_address_t, of which
// IPv4 has the first four bytes (net/netfilter/xt_policy.c, xt_addr_cmp). The rest
// of an IPv4 address there is zero.
func OuterIn(p netip.Prefix, outer netip.Addr) bool {
	return outer.IsValid() && p.Contains(InFamily(outer, xfrm.FamilyOf(p.Addr())))
}

// InFamily returns an outer address as a rule of that family sees it: see OuterIn.
func InFamily(outer netip.Addr, family xfrm.Family) netip.Addr {
	switch {
	case xfrm.FamilyOf(outer) == family:
		return outer
	case family == xfrm.IPv4:
		six := outer.As16()
		return netip.AddrFrom4([4]byte(six[:4]))
	}
	var six [16]byte
	four := outer.As4()
	copy(six[:], four[:])
	return netip.AddrFrom16(six)
}

// Intersect returns the parts of a prefix that lie in the limits: the prefix itself
// without limits, which are nil then.
func Intersect(p netip.Prefix, limits []netip.Prefix) []netip.Prefix {
	if limits == nil {
		return []netip.Prefix{p}
	}
	var parts []netip.Prefix
	for _, limit := range limits {
		if limit.Overlaps(p) {
			if limit.Bits() < p.Bits() {
				limit = p
			}
			if !slices.Contains(parts, limit) {
				parts = append(parts, limit)
			}
		}
	}
	return parts
}

// Covering returns the most specific prefix around p, p itself included, that fits.
func Covering(p netip.Prefix, fits func(netip.Prefix) bool) (netip.Prefix, bool) {
	for bits := p.Bits(); bits > 0; bits-- {
		if at := netip.PrefixFrom(p.Addr(), bits).Masked(); fits(at) {
			return at, true
		}
	}
	return netip.Prefix{}, false
}
