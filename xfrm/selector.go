package xfrm

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Selector is the traffic that a policy or a state claims, with the kernel's
// meaning of source and destination (from the packet's own point of view).
type Selector struct {
	Family Family `json:"family"`
	// Src and Dst are masked prefixes of Family. A selector of family 0 (a
	// state's empty one) has invalid prefixes.
	Src netip.Prefix `json:"src"`
	Dst netip.Prefix `json:"dst"`
	// Proto is 0 for any.
	Proto Proto `json:"proto,omitzero"`
	// SPort and DPort match ports, or ICMP type and code. A zero mask matches any.
	SPort PortMatch `json:"sport,omitzero"`
	DPort PortMatch `json:"dport,omitzero"`
	// Ifindex restricts the policy to one interface; 0 is any.
	Ifindex int32 `json:"ifindex,omitzero"`
}

// PortMatch is a port under a mask, in host byte order: a packet's port p
// matches if p&Mask == Port. A zero Mask matches every port.
type PortMatch struct {
	Port uint16 `json:"port"`
	Mask uint16 `json:"mask"`
}

// Any reports whether every port matches.
func (p PortMatch) Any() bool { return p.Mask == 0 }

// Range returns the first and last matching port. It reports false where the
// mask is not a run of leading ones, so that the ports make no single range.
func (p PortMatch) Range() (lo, hi uint16, ok bool) {
	low := ^p.Mask
	if low&(low+1) != 0 {
		return 0, 0, false
	}
	lo = p.Port & p.Mask
	return lo, lo | low, true
}

// Compare orders selectors: family, source, destination, protocol, ports, interface.
func (s Selector) Compare(o Selector) int {
	return cmp.Or(
		cmp.Compare(s.Family, o.Family),
		ComparePrefix(s.Src, o.Src),
		ComparePrefix(s.Dst, o.Dst),
		cmp.Compare(s.Proto, o.Proto),
		s.SPort.compare(o.SPort),
		s.DPort.compare(o.DPort),
		cmp.Compare(s.Ifindex, o.Ifindex),
	)
}

func (p PortMatch) compare(o PortMatch) int {
	return cmp.Or(cmp.Compare(p.Port, o.Port), cmp.Compare(p.Mask, o.Mask))
}

// ComparePrefix orders prefixes by address, then the shorter first.
func ComparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// String renders the selector in ip-xfrm's words.
func (s Selector) String() string {
	var b strings.Builder
	b.WriteString("src " + s.Src.String() + " dst " + s.Dst.String())
	if s.Proto != 0 {
		b.WriteString(" proto " + s.Proto.String())
	}
	if !s.SPort.Any() {
		b.WriteString(" sport " + s.SPort.String())
	}
	if !s.DPort.Any() {
		b.WriteString(" dport " + s.DPort.String())
	}
	return b.String()
}

// String renders one port, "lo-hi" for a range, or port/mask for a mask that
// makes no range. "any" stands for all ports.
func (p PortMatch) String() string {
	if p.Any() {
		return "any"
	}
	lo, hi, ok := p.Range()
	switch {
	case !ok:
		return fmt.Sprintf("%d/%#x", p.Port, p.Mask)
	case lo == hi:
		return strconv.Itoa(int(lo))
	}
	return fmt.Sprintf("%d-%d", lo, hi)
}
