package space

import (
	"github.com/xfrmfw/xfrmfw/firewall"
)

// Witness returns a packet of a set that is not empty. Where the set leaves a choice it
// is a plain one: TCP from a client's port, without NAT, a new flow of its own addresses.
func (s *Space) Witness(way firewall.Way, set Set) firewall.Passage {
	twins := make(map[int]int) // a bit and the one that it rather equals
	pair := func(f, of Field) {
		for i := range f {
			twins[f[i]] = of[i]
		}
	}
	first, second := s.Dst.Bits, s.RoutedDst.Bits
	if second[0] < first[0] {
		first, second = second, first
	}
	pair(second, first)
	pair(s.RoutedDPort, s.DPort)
	pair(s.OrigSrc.Bits, s.Src.Bits)
	pair(s.OrigDst.Bits, s.Dst.Bits)
	pair(s.ReplySrc.Bits, s.RoutedDst.Bits)
	pair(s.ReplyDst.Bits, s.Src.Bits)
	pair(s.OrigSPort, s.SPort)
	pair(s.OrigDPort, s.DPort)
	pair(s.FlowProto, s.Proto)
	ofDst := make(map[int]int)
	for i, bit := range second {
		ofDst[first[i]] = bit
	}
	for i, bit := range s.RoutedDPort {
		ofDst[s.DPort[i]] = bit
	}
	likely := make(map[int]bool)
	number := func(f Field, n uint64) {
		for i, bit := range f {
			likely[bit] = n>>(len(f)-1-i)&1 != 0
		}
	}
	number(s.Proto, 6)
	number(s.SPort, 49152)
	number(s.DPort, 80)
	number(s.Path.Proto, 50)
	number(s.Ahead.Proto, 50)
	// The last class of a field is rather that of values that nothing asks for.
	for _, f := range []Classed{s.Src, s.Dst, s.RoutedDst, s.ReplySrc, s.Path.Reqid, s.Path.Source, s.Path.Destination, s.Ahead.Reqid, s.Ahead.Source, s.Ahead.Destination} {
		for _, bit := range f.Bits {
			likely[bit] = true
		}
	}
	likely[s.Path.Tunnel], likely[s.Ahead.Tunnel] = true, true
	likely[s.DstLocal] = way == firewall.ToHost
	likely[s.SrcLocal] = way == firewall.FromHost
	pick := func(dst []bool) []bool {
		return s.Pick(set, s.bits, func(bit int, before []bool) bool {
			if at, ok := ofDst[bit]; ok && dst != nil {
				return dst[at]
			}
			if twin, ok := twins[bit]; ok && twin < bit {
				return before[twin]
			}
			return likely[bit] || bit == s.Established && before[s.Reply]
		})
	}
	// Of the destinations before DNAT and behind it one is chosen after the other. A second
	// packet has it from the start, and needs no DNAT then.
	return s.packet(way, pick(pick(nil)))
}
