package prove

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/bdd"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// condition is the conjunction of matches: most are bits that have a value.
type condition struct {
	space    *Space
	literals []bdd.Literal
	rest     Set
}

// condition returns the condition that all packets meet.
func (s *Space) condition() *condition { return &condition{space: s, rest: All} }

// set are the packets that meet the condition.
func (c *condition) set() Set { return c.space.And(c.space.Cube(c.literals), c.rest) }

// and asks for a packet of a set.
func (c *condition) and(set Set) { c.rest = c.space.And(c.rest, set) }

// bit asks for a bit that is set.
func (c *condition) bit(bit int) { c.literals = append(c.literals, bdd.Literal{Bit: bit, Is: true}) }

// number asks for a number in a field.
func (c *condition) number(f field, n uint64) {
	for i, bit := range f {
		c.literals = append(c.literals, bdd.Literal{Bit: bit, Is: n>>(len(f)-1-i)&1 != 0})
	}
}

// within asks for an address of a prefix. The zero prefix is all.
func (c *condition) within(f field, p netip.Prefix) {
	switch {
	case !p.IsValid():
		return
	case xfrm.FamilyOf(p.Addr()) != c.space.Family:
		c.rest = None
		return
	}
	b := p.Addr().As16()
	address := b[:]
	if c.space.Family == xfrm.IPv4 {
		address = b[12:]
	}
	for i := range p.Bits() {
		c.literals = append(c.literals, bdd.Literal{Bit: f[i], Is: address[i/8]>>(7-i%8)&1 != 0})
	}
}

// device asks for an interface in a field.
func (c *condition) device(f field, name string) {
	i, ok := slices.BinarySearch(c.space.names, name)
	if !ok {
		c.rest = None
		return
	}
	c.number(f, uint64(i))
}

// ports asks for a port of a range. The zero range is all.
func (c *condition) ports(f field, p firewall.Ports) {
	switch {
	case p == firewall.Ports{}:
	case p.Lo == p.Hi:
		c.number(f, uint64(p.Lo))
	default:
		c.and(c.space.ports(f, p))
	}
}

// negated returns a set, or with not all packets but its own.
func negated(set Set, not bool) Set {
	if not {
		return set.Not()
	}
	return set
}

// markIs are the packets of which the mark of other programs has a value under a mask.
func (s *Space) markIs(value, mask uint32) Set {
	var literals []bdd.Literal
	for i, bit := range s.fwmark {
		if at := uint32(1) << (len(s.fwmark) - 1 - i); mask&at != 0 {
			literals = append(literals, bdd.Literal{Bit: bit, Is: value&at != 0})
		}
	}
	return s.Cube(literals)
}

// masked asks for a number under a mask. A narrow field has its upper bits zero.
func (c *condition) masked(f field, m xfrm.PortMatch) {
	if m.Port&m.Mask>>len(f) != 0 {
		c.rest = None
	}
	for i, bit := range f {
		if at := uint16(1) << (len(f) - 1 - i); m.Mask&at != 0 {
			c.literals = append(c.literals, bdd.Literal{Bit: bit, Is: m.Port&at != 0})
		}
	}
}

// truthOf is all packets where something holds for the way or the host, and none else.
func truthOf(holds bool) Set {
	if holds {
		return All
	}
	return None
}

// icmp is the protocol ICMP of the family.
func (s *Space) icmp() xfrm.Proto {
	if s.Family == xfrm.IPv6 {
		return xfrm.ICMPv6
	}
	return xfrm.ICMP
}

// quoting are ICMP errors, which any router may send.
func (s *Space) quoting() Set {
	if s.Family == xfrm.IPv6 {
		return s.And(s.number(s.proto, uint64(xfrm.ICMPv6)), s.Range(s.icmpType, 1, 4))
	}
	var kinds []Set
	for _, kind := range []uint64{3, 4, 5, 11, 12} {
		kinds = append(kinds, s.number(s.icmpType, kind))
	}
	return s.And(s.number(s.proto, uint64(xfrm.ICMP)), s.Union(kinds...))
}

// opened are IKE, ESP and AH.
func (s *Space) opened() Set {
	var ports []Set
	for _, port := range []uint64{firewall.IKE, firewall.NATT} {
		ports = append(ports, s.number(s.sport, port), s.number(s.dport, port))
	}
	return s.Union(s.number(s.proto, uint64(xfrm.ESP)), s.number(s.proto, uint64(xfrm.AH)), s.And(s.number(s.proto, uint64(xfrm.UDP)), s.Union(ports...)))
}
