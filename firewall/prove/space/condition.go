package space

import (
	"math/bits"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/bdd"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Condition is the conjunction of matches: most are bits that have a value.
type Condition struct {
	space    *Space
	literals []bdd.Literal
	rest     Set
}

// Condition returns the condition that all packets meet.
func (s *Space) Condition() *Condition { return &Condition{space: s, rest: All} }

// Set are the packets that meet the condition.
func (c *Condition) Set() Set { return c.space.And(c.space.Cube(c.literals), c.rest) }

// And asks for a packet of a set.
func (c *Condition) And(set Set) { c.rest = c.space.And(c.rest, set) }

// Bit asks for a bit that is set.
func (c *Condition) Bit(bit int) { c.Literal(bit, true) }

// Literal asks for a bit that is set, or is not.
func (c *Condition) Literal(bit int, is bool) {
	c.literals = append(c.literals, bdd.Literal{Bit: bit, Is: is})
}

// Number asks for a number in a field.
func (c *Condition) Number(f Field, n uint64) {
	for i, bit := range f {
		c.Literal(bit, n>>(len(f)-1-i)&1 != 0)
	}
}

// LiesIn asks for an address of a prefix. The zero prefix is all.
func (c *Condition) LiesIn(f Classed, p netip.Prefix) {
	switch {
	case !p.IsValid():
	case xfrm.FamilyOf(p.Addr()) != c.space.Family:
		c.rest = None
	default:
		c.Within(f, p)
	}
}

// Reqid asks for an SA's reqid.
func (c *Condition) Reqid(sa *SA, n uint32) { c.Within(sa.Reqid, numberPrefix(n)) }

// Within asks for a value of a prefix of the field.
func (c *Condition) Within(f Classed, p netip.Prefix) {
	first, last, ok := c.space.span(f, p)
	if !ok {
		c.rest = None
		return
	}
	// An interval that a number of leading bits tells needs no further set.
	free := bits.Len(uint(first ^ last))
	if first&(1<<free-1) != 0 || last&(1<<free-1) != 1<<free-1 {
		c.And(c.space.Range(f.Bits, uint64(first), uint64(last)))
		return
	}
	for i, bit := range f.Bits[:len(f.Bits)-free] {
		c.Literal(bit, first>>(len(f.Bits)-1-i)&1 != 0)
	}
}

// Device asks for an interface in a field.
func (c *Condition) Device(f Field, name string) {
	i, ok := slices.BinarySearch(c.space.Names, name)
	if !ok {
		c.rest = None
		return
	}
	c.Number(f, uint64(i))
}

// Ports asks for a port of a range. The zero range is all.
func (c *Condition) Ports(f Field, p firewall.Ports) {
	switch {
	case p == firewall.Ports{}:
	case p.Lo == p.Hi:
		c.Number(f, uint64(p.Lo))
	default:
		c.And(c.space.Ports(f, p))
	}
}

// Negated returns a set, or with not all packets but its own.
func Negated(set Set, not bool) Set {
	if not {
		return set.Not()
	}
	return set
}

// MarkIs are the packets of which the mark of other programs has a value under a mask.
func (s *Space) MarkIs(value, mask uint32) Set {
	var literals []bdd.Literal
	for i, bit := range s.FWMark {
		if at := uint32(1) << (len(s.FWMark) - 1 - i); mask&at != 0 {
			literals = append(literals, bdd.Literal{Bit: bit, Is: value&at != 0})
		}
	}
	return s.Cube(literals)
}

// Masked asks for a number under a mask. A narrow field has its upper bits zero.
func (c *Condition) Masked(f Field, m xfrm.PortMatch) {
	if m.Port&m.Mask>>len(f) != 0 {
		c.rest = None
	}
	for i, bit := range f {
		if at := uint16(1) << (len(f) - 1 - i); m.Mask&at != 0 {
			c.Literal(bit, m.Port&at != 0)
		}
	}
}

// TruthOf is all packets where something holds for the way or the host, and none else.
func TruthOf(holds bool) Set {
	if holds {
		return All
	}
	return None
}

// ICMP is the protocol ICMP of the family.
func (s *Space) ICMP() xfrm.Proto {
	if s.Family == xfrm.IPv6 {
		return xfrm.ICMPv6
	}
	return xfrm.ICMP
}

// Quoting are ICMP errors, which any router may send.
func (s *Space) Quoting() Set {
	if s.Family == xfrm.IPv6 {
		return s.And(s.Number(s.Proto, uint64(xfrm.ICMPv6)), s.Range(s.ICMPType, 1, 4))
	}
	var kinds []Set
	for _, kind := range []uint64{3, 4, 5, 11, 12} {
		kinds = append(kinds, s.Number(s.ICMPType, kind))
	}
	return s.And(s.Number(s.Proto, uint64(xfrm.ICMP)), s.Union(kinds...))
}

// Opened are IKE, ESP and AH.
func (s *Space) Opened() Set {
	var ports []Set
	for _, port := range []uint64{firewall.IKE, firewall.NATT} {
		ports = append(ports, s.Number(s.SPort, port), s.Number(s.DPort, port))
	}
	return s.Union(s.Number(s.Proto, uint64(xfrm.ESP)), s.Number(s.Proto, uint64(xfrm.AH)), s.And(s.Number(s.Proto, uint64(xfrm.UDP)), s.Union(ports...)))
}
