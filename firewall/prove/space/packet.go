package space

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Has reports whether a packet is in a set. Of its SAs the first counts.
func (s *Space) Has(set Set, p firewall.Passage) bool {
	v := s.vector(p)
	return s.Space.Has(set, func(bit int) bool { return v[bit] })
}

// vector is a packet as bits.
func (s *Space) vector(p firewall.Passage) []bool {
	v := make([]bool, s.bits)
	put := func(f Field, n uint64) {
		for i := range f {
			v[f[len(f)-1-i]] = n>>i&1 != 0
		}
	}
	value := func(f Classed, a netip.Addr) {
		if !a.IsValid() {
			a = f.classes.root().Addr()
		}
		put(f.Bits, uint64(f.classes.number(prefix.InFamily(a, xfrm.FamilyOf(f.classes.root().Addr())))))
	}
	for _, at := range []struct {
		SA   SA
		path []xfrm.Transform
	}{{s.Path, p.Path}, {s.Ahead, p.Ahead}} {
		var first xfrm.Transform
		if len(at.path) > 0 {
			first = at.path[0]
			v[at.SA.Present], v[at.SA.Tunnel] = true, first.Mode == xfrm.TunnelMode
		}
		put(at.SA.Proto, uint64(first.Proto))
		value(at.SA.Reqid, numberAddr(first.Reqid))
		value(at.SA.Source, first.Src)
		value(at.SA.Destination, first.Dst)
	}
	value(s.Src, p.Received.Src)
	value(s.Dst, p.Received.Dst)
	value(s.RoutedDst, p.AfterDNAT.Dst)
	value(s.OrigSrc, p.Flow.OrigSrc)
	value(s.OrigDst, p.Flow.OrigDst)
	value(s.ReplySrc, p.Flow.ReplySrc)
	value(s.ReplyDst, p.Flow.ReplyDst)
	put(s.SPort, uint64(p.Received.SPort))
	put(s.DPort, uint64(p.Received.DPort))
	put(s.RoutedDPort, uint64(p.AfterDNAT.DPort))
	put(s.OrigSPort, uint64(p.Flow.OrigSPort))
	put(s.OrigDPort, uint64(p.Flow.OrigDPort))
	put(s.Proto, uint64(p.Proto))
	put(s.FlowProto, uint64(p.Flow.Proto))
	put(s.ICMPType, uint64(p.ICMPType))
	put(s.ICMPCode, uint64(p.ICMPCode))
	put(s.FWMark, uint64(p.Mark&^s.Marks.Both()))
	put(s.In, s.deviceNumber(p.In))
	put(s.Out, s.deviceNumber(p.Out))
	for _, b := range s.truths(&p) {
		v[b.bit] = *b.is
	}
	return v
}

type truth struct {
	bit int
	is  *bool
}

func (s *Space) truths(p *firewall.Passage) []truth {
	return []truth{
		{s.Tagged, &p.Tagged}, {s.Verified, &p.Verified}, {s.SrcLocal, &p.SrcLocal}, {s.DstLocal, &p.DstLocal},
		{s.Misrouted, &p.FailsRPFilter}, {s.Related, &p.Flow.Related}, {s.Established, &p.Flow.Established},
		{s.Reply, &p.Flow.Reply}, {s.SNAT, &p.Flow.SNAT}, {s.DNAT, &p.Flow.DNAT},
	}
}

func (s *Space) deviceNumber(name string) uint64 {
	if i, ok := slices.BinarySearch(s.Names, name); ok {
		return uint64(i)
	}
	return uint64(len(s.Names))
}

// packet is the packet of a vector on a way.
func (s *Space) packet(way firewall.Way, v []bool) firewall.Passage {
	get := func(f Field) (n uint64) {
		for _, bit := range f {
			n <<= 1
			if v[bit] {
				n |= 1
			}
		}
		return n
	}
	addr := func(f Classed) netip.Addr { return f.classes.value(int(get(f.Bits))) }
	device := func(f Field) string {
		if n := get(f); n < uint64(len(s.Names)) {
			return s.Names[n]
		}
		return ""
	}
	p := firewall.Passage{
		Way: way, Proto: xfrm.Proto(get(s.Proto)), ICMPType: uint8(get(s.ICMPType)), ICMPCode: uint8(get(s.ICMPCode)), Mark: uint32(get(s.FWMark)) &^ s.Marks.Both(),
		Received: firewall.Ends{Src: addr(s.Src), Dst: addr(s.Dst), SPort: uint16(get(s.SPort)), DPort: uint16(get(s.DPort))},
		Flow: firewall.Flow{
			Proto: xfrm.Proto(get(s.FlowProto)), OrigSrc: addr(s.OrigSrc), OrigDst: addr(s.OrigDst), ReplySrc: addr(s.ReplySrc), ReplyDst: addr(s.ReplyDst),
			OrigSPort: uint16(get(s.OrigSPort)), OrigDPort: uint16(get(s.OrigDPort)),
		},
	}
	if way != firewall.FromHost {
		p.In = device(s.In)
	}
	if way != firewall.ToHost {
		p.Out = device(s.Out)
	}
	for _, b := range s.truths(&p) {
		*b.is = v[b.bit]
	}
	p.AfterDNAT = p.Received
	p.AfterDNAT.Dst, p.AfterDNAT.DPort = addr(s.RoutedDst), uint16(get(s.RoutedDPort))
	p.Sent = p.AfterDNAT
	for _, at := range []struct {
		SA   SA
		path *[]xfrm.Transform
	}{{s.Path, &p.Path}, {s.Ahead, &p.Ahead}} {
		if !v[at.SA.Present] {
			continue
		}
		mode := xfrm.Mode(xfrm.TransportMode)
		if v[at.SA.Tunnel] {
			mode = xfrm.TunnelMode
		}
		*at.path = []xfrm.Transform{{
			Proto: xfrm.Proto(get(at.SA.Proto)), Reqid: numberOf(addr(at.SA.Reqid)), Mode: mode, Src: addr(at.SA.Source), Dst: addr(at.SA.Destination),
		}}
	}
	p.AheadSent = p.Ahead
	return p
}
