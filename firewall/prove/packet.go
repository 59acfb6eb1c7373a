package prove

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
	put := func(f field, n uint64) {
		for i := range f {
			v[f[len(f)-1-i]] = n>>i&1 != 0
		}
	}
	addr := func(f field, a netip.Addr) {
		if !a.IsValid() {
			return
		}
		b := prefix.InFamily(a, s.Family).AsSlice()
		for i := range f {
			v[f[i]] = b[i/8]>>(7-i%8)&1 != 0
		}
	}
	for _, at := range []struct {
		sa   sa
		path []xfrm.Transform
	}{{s.path, p.Path}, {s.ahead, p.Ahead}} {
		if len(at.path) == 0 {
			continue
		}
		first := at.path[0]
		v[at.sa.present], v[at.sa.tunnel] = true, first.Mode == xfrm.TunnelMode
		put(at.sa.reqid, uint64(first.Reqid))
		put(at.sa.proto, uint64(first.Proto))
		addr(at.sa.source, first.Src)
		addr(at.sa.destine, first.Dst)
	}
	addr(s.src, p.Received.Src)
	addr(s.dst, p.Received.Dst)
	addr(s.routedDst, p.AfterDNAT.Dst)
	addr(s.origSrc, p.Flow.OrigSrc)
	addr(s.origDst, p.Flow.OrigDst)
	addr(s.replySrc, p.Flow.ReplySrc)
	addr(s.replyDst, p.Flow.ReplyDst)
	put(s.sport, uint64(p.Received.SPort))
	put(s.dport, uint64(p.Received.DPort))
	put(s.routedDPort, uint64(p.AfterDNAT.DPort))
	put(s.origSPort, uint64(p.Flow.OrigSPort))
	put(s.origDPort, uint64(p.Flow.OrigDPort))
	put(s.proto, uint64(p.Proto))
	put(s.flowProto, uint64(p.Flow.Proto))
	put(s.icmpType, uint64(p.ICMPType))
	put(s.icmpCode, uint64(p.ICMPCode))
	put(s.fwmark, uint64(p.Mark&^s.marks.Both()))
	put(s.in, s.deviceNumber(p.In))
	put(s.out, s.deviceNumber(p.Out))
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
		{s.tagged, &p.Tagged}, {s.verified, &p.Verified}, {s.srcLocal, &p.SrcLocal}, {s.dstLocal, &p.DstLocal},
		{s.misrouted, &p.FailsRPFilter}, {s.related, &p.Flow.Related}, {s.established, &p.Flow.Established},
		{s.reply, &p.Flow.Reply}, {s.snat, &p.Flow.SNAT}, {s.dnat, &p.Flow.DNAT},
	}
}

func (s *Space) deviceNumber(name string) uint64 {
	if i, ok := slices.BinarySearch(s.names, name); ok {
		return uint64(i)
	}
	return uint64(len(s.names))
}

// packet is the packet of a vector on a way.
func (s *Space) packet(way firewall.Way, v []bool) firewall.Passage {
	get := func(f field) (n uint64) {
		for _, bit := range f {
			n <<= 1
			if v[bit] {
				n |= 1
			}
		}
		return n
	}
	addr := func(f field) netip.Addr {
		b := make([]byte, len(f)/8)
		for i, bit := range f {
			if v[bit] {
				b[i/8] |= 1 << (7 - i%8)
			}
		}
		a, _ := netip.AddrFromSlice(b)
		return a
	}
	device := func(f field) string {
		if n := get(f); n < uint64(len(s.names)) {
			return s.names[n]
		}
		return ""
	}
	p := firewall.Passage{
		Way: way, Proto: xfrm.Proto(get(s.proto)), ICMPType: uint8(get(s.icmpType)), ICMPCode: uint8(get(s.icmpCode)), Mark: uint32(get(s.fwmark)) &^ s.marks.Both(),
		Received: firewall.Ends{Src: addr(s.src), Dst: addr(s.dst), SPort: uint16(get(s.sport)), DPort: uint16(get(s.dport))},
		Flow: firewall.Flow{
			Proto: xfrm.Proto(get(s.flowProto)), OrigSrc: addr(s.origSrc), OrigDst: addr(s.origDst), ReplySrc: addr(s.replySrc), ReplyDst: addr(s.replyDst),
			OrigSPort: uint16(get(s.origSPort)), OrigDPort: uint16(get(s.origDPort)),
		},
	}
	if way != firewall.FromHost {
		p.In = device(s.in)
	}
	if way != firewall.ToHost {
		p.Out = device(s.out)
	}
	for _, b := range s.truths(&p) {
		*b.is = v[b.bit]
	}
	p.AfterDNAT = p.Received
	p.AfterDNAT.Dst, p.AfterDNAT.DPort = addr(s.routedDst), uint16(get(s.routedDPort))
	p.Sent = p.AfterDNAT
	for _, at := range []struct {
		sa   sa
		path *[]xfrm.Transform
	}{{s.path, &p.Path}, {s.ahead, &p.Ahead}} {
		if !v[at.sa.present] {
			continue
		}
		mode := xfrm.Mode(xfrm.TransportMode)
		if v[at.sa.tunnel] {
			mode = xfrm.TunnelMode
		}
		*at.path = []xfrm.Transform{{
			Proto: xfrm.Proto(get(at.sa.proto)), Reqid: uint32(get(at.sa.reqid)), Mode: mode, Src: addr(at.sa.source), Dst: addr(at.sa.destine),
		}}
	}
	p.AheadSent = p.Ahead
	return p
}
