// Package space holds the packets of one address family as a space of bit vectors, and
// sets of them as decision diagrams (package bdd). It knows the fields of a packet, and no
// rule or verdict.
package space

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/prove/bdd"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Set is a set of packets of one Space.
type Set = bdd.Set

// All and None are the set of all packets and the empty one.
const (
	All  = bdd.All
	None = bdd.None
)

// Field is a number in a packet: its bits, the most significant first.
type Field []int

// SA is an SA on a packet's path. Its outer addresses are as xt_policy sees them, in
// the inner packet's family (prefix.InFamily).
type SA struct {
	Present                    int
	Proto                      Field
	Tunnel                     int // in tunnel mode
	Reqid, Source, Destination Classed
}

// Space is all packets of one family. The bits of a packet that many rules ask for decide
// first, because each of their values has few sets below. Addresses follow in one of two
// orders (ends). Fields that questions compare with each other decide bit by bit in turn. All
// that few rules ask for comes last. Addresses and reqids are told apart as far as the Values
// of the space do.
type Space struct {
	*bdd.Space
	Family xfrm.Family
	Marks  firewall.Marks
	// Names are the interfaces, sorted; the number after the last stands for any other.
	Names []string
	vrfs  []string // names of those that are a VRF
	bits  int
	// odd is the first prefix or reqid that something asked for and the Values lack.
	odd string

	Path, Ahead                             SA
	Src, Dst, RoutedDst                     Classed // RoutedDst is after DNAT
	OrigSrc, OrigDst, ReplySrc, ReplyDst    Classed
	SPort, DPort, RoutedDPort               Field
	OrigSPort, OrigDPort                    Field
	Proto, FlowProto                        Field
	ICMPType, ICMPCode                      Field
	In, Out                                 Field
	FWMark                                  Field // of other programs, behind PREROUTING
	Tagged, Verified                        int   // as the packet arrives
	SrcLocal, DstLocal                      int
	Misrouted                               int
	Related, Established, Reply, SNAT, DNAT int
}

// New returns the packets of a family on a host. Besides the facts of the host, rules may
// ask for some values. With noNAT no packet is changed by DNAT. NewOfFlow has fewer packets.
func New(family xfrm.Family, f *firewall.Facts, values Values, noNAT bool) *Space {
	values.Add(factsValues(f))
	names := slices.Compact(slices.Sorted(slices.Values(append(values.Names, f.VRFs...))))
	s := &Space{Space: bdd.New(), Family: family, Marks: f.Marks, Names: names, vrfs: f.VRFs}
	outer, reqids, addresses := values.classes(family)
	for _, b := range []*int{
		&s.Tagged, &s.Verified, &s.Reply, &s.Established, &s.Related, &s.SrcLocal, &s.SNAT, &s.DNAT, &s.Misrouted,
	} {
		*b = s.bit()
	}
	s.Proto, s.ICMPType, s.ICMPCode = s.field(8), s.field(8), s.field(8)
	s.In, s.Out = s.field(bdd.Bits(len(names)+1)), s.field(bdd.Bits(len(names)+1))
	s.ends(outer, reqids, addresses, !noNAT && shareLocals(f, family))
	s.classed(addresses, &s.OrigSrc)
	s.classed(addresses, &s.ReplySrc, &s.OrigDst)
	s.classed(addresses, &s.ReplyDst)
	s.FlowProto = s.field(8)
	for _, f := range []*Field{&s.SPort, &s.DPort, &s.RoutedDPort, &s.OrigSPort, &s.OrigDPort} {
		*f = s.field(16)
	}
	s.DstLocal = s.bit()
	if noNAT {
		s.RoutedDst, s.RoutedDPort = s.Dst, s.DPort
	}
	s.FWMark = s.field(32)
	return s
}

// ends gives the SAs and addresses of a packet their bits. The SA on the path stands in front
// of the source, and the SA ahead in front of the destination behind DNAT, because an address
// follows from the tunnel: with both SAs in front a set has a part for each two tunnels.
//
// An ICMP error ties the SA on its path to the flow that it quotes, behind all addresses, as
// soon as its destination is local. With the destination first, the SA ahead is forgotten by
// then, and a destination that is not local makes the SA on the path meaningless. A local
// network that is a tunnel's own would be kept in mind as long as the SA on the path: then the
// source goes first.
func (s *Space) ends(outer, reqids, addresses *classes, destinationFirst bool) {
	sa := func(at *SA) {
		at.Present, at.Proto, at.Tunnel = s.bit(), s.field(8), s.bit()
		s.classed(reqids, &at.Reqid)
		s.classed(outer, &at.Source)
		s.classed(outer, &at.Destination)
	}
	if destinationFirst {
		sa(&s.Ahead)
		s.classed(addresses, &s.RoutedDst)
		s.classed(addresses, &s.Dst)
		sa(&s.Path)
		s.classed(addresses, &s.Src)
		return
	}
	sa(&s.Path)
	s.classed(addresses, &s.Src)
	sa(&s.Ahead)
	s.classed(addresses, &s.Dst, &s.RoutedDst)
}

// shareLocals reports whether a local network has many remote ones, as it has on most
// gateways, or there are few.
func shareLocals(f *firewall.Facts, family xfrm.Family) bool {
	locals, remotes := make(map[netip.Prefix]bool), make(map[netip.Prefix]bool)
	for i := range f.Guards {
		if g := &f.Guards[i]; g.Family() == family {
			locals[g.Local], remotes[g.Remote] = true, true
		}
	}
	return 8*len(locals) <= max(len(remotes), 64)
}

func (s *Space) bit() int {
	s.bits++
	return s.bits - 1
}

func (s *Space) field(width int) Field {
	f := make(Field, width)
	for i := range f {
		f[i] = s.bit()
	}
	return f
}

// classed gives fields that classes divide their bits, in turn.
func (s *Space) classed(c *classes, fields ...*Classed) {
	for _, f := range fields {
		*f = Classed{make(Field, c.bits), c}
	}
	for i := range c.bits {
		for _, f := range fields {
			f.Bits[i] = s.bit()
		}
	}
}

// Odd returns an error about a value that something asked for and the space does not tell
// from others, so that a question about it has no answer.
func (s *Space) Odd() error {
	if s.odd != "" {
		return fmt.Errorf("prove for all packets: %s is no value of the rules or the host", s.odd)
	}
	return nil
}

// LiesIn returns the packets with an address of a prefix in a field. The zero prefix
// is all.
func (s *Space) LiesIn(f Classed, p netip.Prefix) Set {
	switch {
	case !p.IsValid():
		return All
	case xfrm.FamilyOf(p.Addr()) != s.Family:
		return None
	}
	return s.within(f, p)
}

// ReqidIs returns the packets of an SA with a reqid.
func (s *Space) ReqidIs(sa *SA, n uint32) Set { return s.within(sa.Reqid, numberPrefix(n)) }

// within returns the packets with a value of a prefix in a field.
func (s *Space) within(f Classed, p netip.Prefix) Set {
	first, last, ok := s.span(f, p)
	if !ok {
		return None
	}
	return s.Range(f.Bits, uint64(first), uint64(last))
}

// span returns the classes of a prefix. One of outer addresses may be of the other family.
func (s *Space) span(f Classed, p netip.Prefix) (first, last int, ok bool) {
	i, ok := f.classes.places[outerIn(p, xfrm.FamilyOf(f.classes.root().Addr())).Masked()]
	if !ok {
		if s.odd == "" {
			s.odd = p.String()
		}
		return 0, 0, false
	}
	return f.classes.nodes[i].first, f.classes.nodes[i].last, true
}

// LiesInAny returns the packets with an address of one of the prefixes in a field.
func (s *Space) LiesInAny(f Classed, list []netip.Prefix) Set {
	sets := make([]Set, len(list))
	for i, p := range list {
		sets[i] = s.LiesIn(f, p)
	}
	return s.Union(sets...)
}

// Outer returns the packets with an outer address in a field of an SA.
func (s *Space) Outer(f Classed, a netip.Addr) Set {
	return s.LiesIn(f, prefix.Single(prefix.InFamily(a, s.Family)))
}

// Device returns the packets with an interface in a field.
func (s *Space) Device(f Field, name string) Set {
	i, ok := slices.BinarySearch(s.Names, name)
	if !ok {
		return None
	}
	return s.Number(f, uint64(i))
}

// VRF returns the packets with a VRF in a field of interfaces.
func (s *Space) VRF(f Field) Set {
	list := make([]Set, len(s.vrfs))
	for i, name := range s.vrfs {
		list[i] = s.Device(f, name)
	}
	return s.Union(list...)
}

// Ports returns the packets with a port of a range. The zero range is all.
func (s *Space) Ports(f Field, p firewall.Ports) Set {
	if p == (firewall.Ports{}) {
		return All
	}
	return s.Range(f, uint64(p.Lo), uint64(p.Hi))
}
