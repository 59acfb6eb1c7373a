package evaluate

import (
	"github.com/xfrmfw/xfrmfw/firewall/prove/bdd"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// part is the value of a field of nftables in some packets: bits of the packet, an address
// or reqid of it, or one value. A packet that no part of a field has is one in which the
// kernel breaks off the rule.
type part struct {
	in    space.Set
	bits  space.Field // bits of the packet, or one of the constants below
	of    space.Classed
	value sets.Value
}

// Bits of a part that are no bits of the packet: they are alike in all packets.
const (
	isZero = -1 - iota
	isOne
)

func (p part) isClassed() bool { return p.of.Bits != nil }

func (p part) isValue() bool { return p.bits == nil && !p.isClassed() }

// equals returns the packets of a part with a value, under a mask of the value's length.
func (s model) equals(p part, v, mask sets.Value) space.Set {
	if p.isValue() {
		return s.And(p.in, space.TruthOf(masked(p.value, mask) == v))
	}
	if p.isClassed() {
		if masked(v, mask) != v {
			return space.None
		}
		return s.between(p, v, highest(v, mask))
	}
	var literals []bdd.Literal
	set := p.in
	of, keep := v.Append(nil), mask.Append(nil)
	for i, bit := range p.bits {
		is := of[i/8]>>(7-i%8)&1 != 0
		switch {
		case keep[i/8]>>(7-i%8)&1 == 0:
			if is { // no masked number has this bit
				return space.None
			}
		case bit == isZero || bit == isOne:
			if is != (bit == isOne) {
				return space.None
			}
		default:
			literals = append(literals, bdd.Literal{Bit: bit, Is: is})
		}
	}
	return s.And(set, s.Cube(literals))
}

func masked(v, mask sets.Value) sets.Value {
	b := v.Append(nil)
	for i, keep := range mask.Append(nil) {
		b[i] &= keep
	}
	return sets.Bytes(b)
}

// between returns the packets of a part with a value in a range.
func (s model) between(p part, lo, hi sets.Value) space.Set {
	if p.isValue() {
		return s.And(p.in, space.TruthOf(p.value.Compare(lo) >= 0 && p.value.Compare(hi) <= 0))
	}
	if p.isClassed() {
		list := prefixes(lo, hi)
		within := make([]space.Set, len(list))
		for i, of := range list {
			c := s.Condition()
			c.Within(p.of, of)
			within[i] = c.Set()
		}
		return s.And(p.in, s.Union(within...))
	}
	if lo == hi {
		return s.equals(p, lo, allBits(lo.Len()))
	}
	first, last := lo.Append(nil), hi.Append(nil)
	if bits, ok := prefixLength(first, last); ok { // cheaper than the two bounds
		return s.equals(p, lo, maskOf(bits, len(first)))
	}
	return s.And(p.in, s.Between(p.bits, first, last))
}

// prefixLength returns how many bits a range from first to last has in common, if it
// has all numbers that begin so.
func prefixLength(first, last []byte) (int, bool) {
	n, differs := 0, false
	for i := range first {
		for bit := 7; bit >= 0; bit-- {
			lo, hi := first[i]>>bit&1, last[i]>>bit&1
			switch {
			case lo == hi && !differs:
				n++
			case lo == 0 && hi == 1:
				differs = true
			default:
				return 0, false
			}
		}
	}
	return n, true
}

func allBits(size int) sets.Value { return maskOf(8*size, size) }

func maskOf(bits, size int) sets.Value {
	b := make([]byte, size)
	for i := range bits {
		b[i/8] |= 1 << (7 - i%8)
	}
	return sets.Bytes(b)
}

const untracked = 64 // NF_CT_STATE_UNTRACKED_BIT

// parts are the values of a field at a base chain, and false for a field that has no model.
// Mark is not among them: its value is that of a stream.
func (s model) parts(f sets.Field, at sight) ([]part, bool) {
	bits := func(in space.Set, b space.Field) []part { return []part{{in: in, bits: b}} }
	value := func(in space.Set, n uint64) part { return part{in: in, value: sets.Number(f.Type(), n)} }
	truth := func(is space.Set, yes, no uint64) []part { return []part{value(is, yes), value(is.Not(), no)} }
	proto := func(p xfrm.Proto) space.Set { return s.Number(s.Proto, uint64(p)) }
	address := func(of xfrm.Family, f space.Classed) []part { return s.ofFamily(of, []part{{in: space.All, of: f}}) }
	dst, dport := s.Dst, s.DPort
	if at.routed {
		dst, dport = s.RoutedDst, s.RoutedDPort
	}
	switch f.Kind {
	case sets.NFProto:
		return []part{value(space.All, uint64(s.Family))}, true
	case sets.L4Proto:
		return bits(space.All, s.Proto), true
	case sets.InName, sets.OutName, sets.InIndex, sets.OutIndex:
		return s.deviceParts(f, at), true
	case sets.SecPath:
		return truth(s.And(space.TruthOf(at.path), s.Bit(s.Path.Present)), 1, 0), true
	case sets.RouteIPsec:
		return truth(s.And(space.TruthOf(at.ahead), s.Bit(s.Ahead.Present)), 1, 0), true
	case sets.FibSrcInput:
		return truth(s.Bit(s.Misrouted), 0, 1), true
	case sets.FibDstType:
		return truth(at.dstLocal, sets.Local, 1), true
	case sets.FibSrcType:
		return truth(s.Bit(s.SrcLocal), sets.Local, 1), true
	case sets.Src4:
		return address(xfrm.IPv4, s.Src), true
	case sets.Src6:
		return address(xfrm.IPv6, s.Src), true
	case sets.Dst4:
		return address(xfrm.IPv4, dst), true
	case sets.Dst6:
		return address(xfrm.IPv6, dst), true
	case sets.SrcPort:
		icmp := s.Or(proto(xfrm.ICMP), proto(xfrm.ICMPv6))
		return []part{{in: icmp.Not(), bits: s.SPort}, {in: icmp, bits: append(append(space.Field{}, s.ICMPType...), s.ICMPCode...)}}, true
	case sets.DstPort:
		return bits(space.All, dport), true
	case sets.UDPSrc:
		return bits(proto(xfrm.UDP), s.SPort), true
	case sets.UDPDst:
		return bits(proto(xfrm.UDP), dport), true
	case sets.TCPSrc:
		return bits(proto(xfrm.TCP), s.SPort), true
	case sets.TCPDst:
		return bits(proto(xfrm.TCP), dport), true
	case sets.TCPFlags: // all TCP packets begin their flow here
		return []part{value(proto(xfrm.TCP), 2)}, true
	case sets.ICMPType:
		return bits(proto(xfrm.ICMP), s.ICMPType), true
	case sets.ICMPv6Type:
		return bits(proto(xfrm.ICMPv6), s.ICMPType), true
	case sets.OutKind: // the one kind that a rule asks for
		if !at.out {
			return nil, true
		}
		return []part{{in: s.VRF(s.Out), value: sets.Name("vrf")}}, true
	case sets.EtherDst: // frames that a bridge only passes on are no packets here
		return nil, true
	}
	switch parts, ok := s.flowParts(f); {
	case ok && s.untracked && f.Kind == sets.CtState:
		return []part{{in: space.All, value: sets.Number(sets.TypeCtState, untracked)}}, true
	case ok && s.untracked:
		return nil, true
	case ok:
		return parts, true
	}
	return s.saParts(f, at)
}

// ofFamily are the values of a field that packets of one family have.
func (s model) ofFamily(of xfrm.Family, parts []part) []part {
	if s.Family != of {
		return nil
	}
	return parts
}

// deviceParts are the values of an interface's name, or of its index: all but that of
// the loopback interface are alike.
func (s model) deviceParts(f sets.Field, at sight) []part {
	by, seen := s.In, at.in
	if f.Kind == sets.OutName || f.Kind == sets.OutIndex {
		by, seen = s.Out, at.out
	}
	if !seen {
		return nil
	}
	var parts []part
	known := space.None
	for _, name := range s.Names {
		in := s.Device(by, name)
		known = s.Or(known, in)
		v := sets.Name(name)
		if f.Type() == sets.TypeIndex {
			v = sets.Number(sets.TypeIndex, 2)
			if name == "lo" {
				v = sets.Number(sets.TypeIndex, 1)
			}
		}
		parts = append(parts, part{in: in, value: v})
	}
	other := sets.Name("")
	if f.Type() == sets.TypeIndex {
		other = sets.Number(sets.TypeIndex, 2)
	}
	return append(parts, part{in: known.Not(), value: other})
}

// markParts are the values of the mark in a stream of packets.
func (s model) markParts(m int, at sight) []part {
	mark, bits := s.mark(m), make(space.Field, len(s.FWMark))
	for i := range bits {
		switch of := uint32(1) << (len(bits) - 1 - i); {
		case mark&of != 0:
			bits[i] = isOne
		case s.Marks.Both()&of != 0 || !at.routed:
			bits[i] = isZero
		default:
			bits[i] = s.FWMark[i]
		}
	}
	return []part{{in: space.All, bits: bits}}
}

// flowParts are the values of fields of a connection.
func (s model) flowParts(f sets.Field) ([]part, bool) {
	address := func(of xfrm.Family, f space.Classed) []part { return s.ofFamily(of, []part{{in: space.All, of: f}}) }
	switch f.Kind {
	case sets.CtState:
		state := func(in space.Set, n uint64) part { return part{in: in, value: sets.Number(sets.TypeCtState, n)} }
		related, established := s.Bit(s.Related), s.Bit(s.Established)
		return []part{
			state(related, sets.Related), state(s.Minus(established, related), sets.Established), state(s.Or(related, established).Not(), sets.New),
		}, true
	case sets.CtStatus:
		return []part{{in: space.All, bits: constantBut(32, map[uint64]int{sets.SNATed: s.SNAT, sets.DNATed: s.DNAT})}}, true
	case sets.CtDirection:
		return []part{{in: space.All, bits: constantBut(8, map[uint64]int{1: s.Reply})}}, true
	case sets.CtProto:
		return []part{{in: space.All, bits: s.FlowProto}}, true
	case sets.CtOrigSrc4:
		return address(xfrm.IPv4, s.OrigSrc), true
	case sets.CtOrigSrc6:
		return address(xfrm.IPv6, s.OrigSrc), true
	case sets.CtOrigDst4:
		return address(xfrm.IPv4, s.OrigDst), true
	case sets.CtOrigDst6:
		return address(xfrm.IPv6, s.OrigDst), true
	case sets.CtReplySrc4:
		return address(xfrm.IPv4, s.ReplySrc), true
	case sets.CtReplySrc6:
		return address(xfrm.IPv6, s.ReplySrc), true
	case sets.CtReplyDst4:
		return address(xfrm.IPv4, s.ReplyDst), true
	case sets.CtReplyDst6:
		return address(xfrm.IPv6, s.ReplyDst), true
	case sets.CtOrigSrcPort:
		return []part{{in: space.All, bits: s.OrigSPort}}, true
	case sets.CtOrigDstPort:
		return []part{{in: space.All, bits: s.OrigDPort}}, true
	}
	return nil, false
}

// constantBut is a number that is 0 but for some bits.
func constantBut(width int, bits map[uint64]int) space.Field {
	f := make(space.Field, width)
	for i := range f {
		f[i] = isZero
		if bit, ok := bits[1<<(width-1-i)]; ok {
			f[i] = bit
		}
	}
	return f
}

// saParts are the values of fields of the packet's SA. It has at most one on each path,
// and outer addresses in tunnel mode alone (xfrm_state_addr_ok).
func (s model) saParts(f sets.Field, at sight) ([]part, bool) {
	if !f.OfSA() {
		return nil, false
	}
	on, seen := &s.Path, at.path
	if f.Kind >= sets.OutReqid {
		on, seen = &s.Ahead, at.ahead
	}
	if !seen || f.Depth > 0 {
		return nil, true
	}
	present := s.Bit(on.Present)
	if f.Kind == sets.InReqid || f.Kind == sets.OutReqid {
		return []part{{in: present, of: on.Reqid}}, true
	}
	end := on.Source
	if f.Kind == sets.InOuterDst4 || f.Kind == sets.InOuterDst6 || f.Kind == sets.OutOuterDst4 || f.Kind == sets.OutOuterDst6 {
		end = on.Destination
	}
	in := s.And(present, s.Bit(on.Tunnel))
	switch f.Kind {
	case sets.InOuterSrc4, sets.InOuterDst4, sets.OutOuterSrc4, sets.OutOuterDst4,
		sets.InOuterSrc6, sets.InOuterDst6, sets.OutOuterSrc6, sets.OutOuterDst6:
		return []part{{in: in, of: end}}, true
	}
	return nil, false // an SPI
}
