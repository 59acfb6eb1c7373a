package prove

import (
	"github.com/xfrmfw/xfrmfw/firewall"
)

// Witness returns a packet of a set that is not empty. Where the set leaves a choice it
// is a plain one: TCP from a client's port, without NAT, a new flow of its own addresses.
func (s *Space) Witness(way firewall.Way, set Set) firewall.Passage {
	twins := make(map[int]int) // a bit and the one that it rather equals
	pair := func(f, of field) {
		for i := range f {
			twins[f[i]] = of[i]
		}
	}
	pair(s.routedDst, s.dst)
	pair(s.routedDPort, s.dport)
	pair(s.origSrc, s.src)
	pair(s.origDst, s.dst)
	pair(s.replyDst, s.src)
	pair(s.origSPort, s.sport)
	pair(s.origDPort, s.dport)
	pair(s.flowProto, s.proto)
	ofDst := make(map[int]int)
	for i, bit := range s.routedDst {
		ofDst[s.dst[i]], ofDst[s.replySrc[i]] = bit, bit
	}
	for i, bit := range s.routedDPort {
		ofDst[s.dport[i]] = bit
	}
	likely := make(map[int]bool)
	number := func(f field, n uint64) {
		for i, bit := range f {
			likely[bit] = n>>(len(f)-1-i)&1 != 0
		}
	}
	number(s.proto, 6)
	number(s.sport, 49152)
	number(s.dport, 80)
	number(s.path.proto, 50)
	number(s.ahead.proto, 50)
	for _, f := range []field{s.src, s.dst, s.routedDst} {
		likely[f[len(f)-1]] = true
	}
	likely[s.path.tunnel], likely[s.ahead.tunnel] = true, true
	likely[s.dstLocal] = way == firewall.ToHost
	likely[s.srcLocal] = way == firewall.FromHost
	pick := func(dst []bool) []bool {
		return s.Pick(set, s.bits, func(bit int, before []bool) bool {
			if at, ok := ofDst[bit]; ok && dst != nil {
				return dst[at]
			}
			if twin, ok := twins[bit]; ok && twin < bit {
				return before[twin]
			}
			return likely[bit] || bit == s.established && before[s.reply]
		})
	}
	// The destination behind DNAT is chosen after the one before it. A second packet has
	// it from the start, and needs no DNAT then.
	return s.packet(way, pick(pick(nil)))
}
