package space

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Kind is a kind of packet, by conntrack's knowledge of its flow. All packets of a kind have
// a flow that belongs to them.
type Kind struct {
	// Error is true for ICMP errors, the flow of which is that of the packet they quote. Any
	// other packet is of its own flow.
	Error bool
	// Reply is the direction of the packet, or of the one that found the flow for an error.
	// SNAT and DNAT are true if the flow's source or destination is rewritten.
	Reply, SNAT, DNAT bool
}

// NewOfFlow is New with the packets of one kind. The addresses of a packet and
// those of its flow are one field of this space, because the kernel holds them equal.
func NewOfFlow(family xfrm.Family, f *firewall.Facts, values Values, k Kind) *Space {
	s := New(family, f, values, false)
	// near is the tuple that the packet has as it arrives, far the one of the other direction.
	near, far := [2]*Classed{&s.OrigSrc, &s.OrigDst}, [2]*Classed{&s.ReplySrc, &s.ReplyDst}
	keepsSource, keepsDestination := !k.SNAT, !k.DNAT
	if k.Reply {
		near, far = far, near
		keepsSource, keepsDestination = !k.DNAT, !k.SNAT
	}
	if keepsDestination {
		s.RoutedDst, s.RoutedDPort = s.Dst, s.DPort
	}
	*near[1], *far[0] = s.Dst, s.RoutedDst
	if !k.Error {
		*near[0], s.FlowProto = s.Src, s.Proto
		if k.Reply {
			s.OrigSPort = s.RoutedDPort
		} else {
			s.OrigSPort, s.OrigDPort = s.SPort, s.DPort
		}
	}
	if keepsSource {
		*far[1] = *near[0]
		if !k.Error && k.Reply {
			s.OrigDPort = s.SPort
		}
	}
	return s
}

// Apart returns packets of a set that have addresses of other classes in two fields, of one
// class each. It calls try with them until that returns true.
func (s *Space) Apart(set Set, a, b Classed, try func(Set) bool) {
	for n := range uint64(len(a.classes.of)) {
		if some := s.Minus(s.And(set, s.Number(a.Bits, n)), s.Number(b.Bits, n)); some != None && try(some) {
			return
		}
	}
}
