package firewall

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Passage is the whole way of one packet through this host: its addresses before and
// after NAT, the SAs that it came out of and will go through, and its flow.
type Passage struct {
	Way Way
	// In and Out are names of interfaces, empty where the way has none.
	In, Out string
	Proto   xfrm.Proto
	// ICMPType and ICMPCode are those of ICMP and ICMPv6.
	ICMPType, ICMPCode uint8
	// Received are the ends as the packet arrived, AfterDNAT those that routing sees,
	// Sent those after SNAT. They are equal where no NAT takes place.
	Received, AfterDNAT, Sent Ends
	// Path are the SAs that the packet came out of, Ahead those that it will go
	// through by the policy lookup before SNAT, AheadSent by the one after SNAT.
	Path, Ahead, AheadSent []xfrm.Transform
	// Tagged and Verified are true if the packet has the bit as it arrives.
	Tagged, Verified bool
	// Mark is the fwmark, without our bits, as other programs' rules leave it behind our
	// PREROUTING.
	Mark uint32
	// SrcLocal is true if the source is an address of this host, DstLocal if the
	// destination is as received.
	SrcLocal, DstLocal bool
	// FailsRPFilter is true if the interface In is not the one that leads to the source.
	FailsRPFilter bool
	Flow          Flow
}

// Way is the hooks that a packet passes.
type Way uint8

// The ways: to this host, through it, and from it.
const (
	ToHost Way = iota
	Through
	FromHost
)

// Ends are source and destination of a packet. Ports are 0 where the protocol has none.
type Ends struct {
	Src, Dst     netip.Addr
	SPort, DPort uint16
}

// Flow is conntrack's knowledge of a packet's flow.
type Flow struct {
	// Related and Established are the packet's state; neither is a new flow.
	Related, Established bool
	// Reply is true in the direction of the answer.
	Reply bool
	// SNAT and DNAT are true if the flow's source or destination is rewritten.
	SNAT, DNAT bool
	// Proto and the tuples are those of the flow, which an ICMP error does not share.
	Proto                                xfrm.Proto
	OrigSrc, OrigDst, ReplySrc, ReplyDst netip.Addr
	OrigSPort, OrigDPort                 uint16
}
