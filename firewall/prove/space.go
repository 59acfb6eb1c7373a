package prove

import (
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

// field is a number in a packet: its bits, the most significant first.
type field []int

// sa is an SA on a packet's path. Its outer addresses are as xt_policy sees them, in
// the inner packet's family (prefix.InFamily).
type sa struct {
	present         int
	reqid, proto    field
	tunnel          int // in tunnel mode
	source, destine field
}

// Space is all packets of one family. The SAs decide first, because the addresses of a
// packet follow from its tunnel; all that few rules ask for comes last.
type Space struct {
	*bdd.Space
	Family xfrm.Family
	marks  firewall.Marks
	// noNAT is true if packets have the same destination before DNAT and behind it.
	noNAT bool
	// names are the interfaces; the number after the last stands for any other.
	names []string
	vrfs  []string // names of those that are a VRF
	bits  int

	path, ahead                             sa
	src, dst, routedDst                     field // routedDst is after DNAT
	origSrc, origDst, replySrc, replyDst    field
	sport, dport, routedDPort               field
	origSPort, origDPort                    field
	proto, flowProto                        field
	icmpType, icmpCode                      field
	in, out                                 field
	fwmark                                  field // of other programs, behind PREROUTING
	tagged, verified                        int   // as the packet arrives
	srcLocal, dstLocal                      int
	misrouted                               int
	related, established, reply, snat, dnat int
}

// NewSpace returns the packets of a family on a host. Names are the interfaces that
// anything asks for, besides the VRFs.
func NewSpace(family xfrm.Family, f *firewall.Facts, names []string) *Space {
	return newSpace(family, f, names, false)
}

func newSpace(family xfrm.Family, f *firewall.Facts, names []string, noNAT bool) *Space {
	names = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(names), f.VRFs...))))
	s := &Space{Space: bdd.New(), Family: family, marks: f.Marks, names: names, vrfs: f.VRFs, noNAT: noNAT}
	width := 128
	if family == xfrm.IPv4 {
		width = 32
	}
	for _, at := range []*sa{&s.path, &s.ahead} {
		at.present = s.bit()
		at.reqid, at.source, at.destine = s.field(32), s.field(width), s.field(width)
		at.proto, at.tunnel = s.field(8), s.bit()
	}
	for _, f := range []*field{&s.src, &s.origSrc, &s.replySrc, &s.dst, &s.routedDst, &s.origDst, &s.replyDst} {
		*f = s.field(width)
	}
	for _, f := range []*field{&s.sport, &s.dport, &s.routedDPort, &s.origSPort, &s.origDPort} {
		*f = s.field(16)
	}
	if noNAT {
		s.routedDst, s.routedDPort = s.dst, s.dport
	}
	for _, f := range []*field{&s.proto, &s.flowProto, &s.icmpType, &s.icmpCode} {
		*f = s.field(8)
	}
	s.in, s.out = s.field(bdd.Bits(len(names)+1)), s.field(bdd.Bits(len(names)+1))
	for _, b := range []*int{
		&s.tagged, &s.verified, &s.srcLocal, &s.dstLocal, &s.misrouted, &s.reply, &s.snat, &s.dnat, &s.related, &s.established,
	} {
		*b = s.bit()
	}
	s.fwmark = s.field(32)
	return s
}

func (s *Space) bit() int {
	s.bits++
	return s.bits - 1
}

func (s *Space) field(width int) field {
	f := make(field, width)
	for i := range f {
		f[i] = s.bit()
	}
	return f
}

// number returns the packets with a number in a field.
func (s *Space) number(f field, n uint64) Set { return s.Number(f, n) }

// within returns the packets with an address of a prefix in a field. The zero prefix
// is all.
func (s *Space) within(f field, p netip.Prefix) Set {
	switch {
	case !p.IsValid():
		return All
	case xfrm.FamilyOf(p.Addr()) != s.Family:
		return None
	}
	return s.Prefix(f, p.Addr().AsSlice(), p.Bits())
}

func (s *Space) withinAny(f field, list []netip.Prefix) Set {
	sets := make([]Set, len(list))
	for i, p := range list {
		sets[i] = s.within(f, p)
	}
	return s.Union(sets...)
}

// outer returns the packets with an outer address in a field of an SA.
func (s *Space) outer(f field, a netip.Addr) Set {
	return s.within(f, prefix.Single(prefix.InFamily(a, s.Family)))
}

// device returns the packets with an interface in a field.
func (s *Space) device(f field, name string) Set {
	i, ok := slices.BinarySearch(s.names, name)
	if !ok {
		return None
	}
	return s.number(f, uint64(i))
}

// vrf returns the packets with a VRF in a field of interfaces.
func (s *Space) vrf(f field) Set {
	list := make([]Set, len(s.vrfs))
	for i, name := range s.vrfs {
		list[i] = s.device(f, name)
	}
	return s.Union(list...)
}

// ports returns the packets with a port of a range. The zero range is all.
func (s *Space) ports(f field, p firewall.Ports) Set {
	if p == (firewall.Ports{}) {
		return All
	}
	return s.Range(f, uint64(p.Lo), uint64(p.Hi))
}
