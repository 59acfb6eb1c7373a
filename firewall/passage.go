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
	// SrcLocal is true if the source is an address of this host, DstLocal if the
	// destination is as received.
	SrcLocal, DstLocal bool
	// Misrouted is true if the interface In is not the one that leads to the source.
	Misrouted bool
	Flow      Flow
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

// Action is the fate of a packet.
type Action uint8

// The actions. Leave returns the packet to the rest of the host's firewall; Refuse
// drops it and tells the sender.
const (
	Leave Action = iota
	Admit
	Discard
	Refuse
)

var actionNames = [...]string{"leave", "accept", "drop", "reject"}

// String returns "leave", "accept", "drop" or "reject".
func (a Action) String() string { return actionNames[a] }

// Verdict is the fate of a packet and the case that decides it. NoCase stands for the
// configuration's own limits and for packets that serve IPsec itself.
type Verdict struct {
	Action Action
	Case   Case
}

// question is a passage in front of the facts.
type question struct {
	*Facts
	*Passage
	family xfrm.Family
	// evidence is the case that verified the packet, NoCase if none did.
	evidence Case
}

// decrypted reports whether the packet came out of an SA.
func (q *question) decrypted() bool { return len(q.Path) > 0 }

// error reports whether the packet is an ICMP error, which quotes another packet.
func (q *question) error() bool {
	if q.Proto == xfrm.ICMPv6 {
		return q.ICMPType >= 1 && q.ICMPType <= 4
	}
	return q.Proto == xfrm.ICMP && (q.ICMPType == 3 || q.ICMPType == 11 || q.ICMPType == 12)
}

// icmp reports whether the packet is ICMP of its own family.
func (q *question) icmp() bool {
	return q.Proto == xfrm.ICMP && q.family == xfrm.IPv4 || q.Proto == xfrm.ICMPv6 && q.family == xfrm.IPv6
}

// cameOutOf reports whether one of the packet's SAs is the match's.
func (q *question) cameOutOf(m SAMatch) bool { return q.passes(q.Path, m) }

// goesInto reports whether the packet will go through an SA of the match.
func (q *question) goesInto(m SAMatch) bool { return q.passes(q.Ahead, m) }

func (q *question) passes(sas []xfrm.Transform, m SAMatch) bool {
	for _, sa := range sas {
		if sa.Proto == m.Proto && sa.Reqid == m.Reqid &&
			(!m.Src.IsValid() || sa.Mode == xfrm.TunnelMode && sa.Src == m.Src && sa.Dst == m.Dst) {
			return true
		}
	}
	return false
}

// goesIn and comesFrom report whether ends lie in a pair's selectors, from this host to
// the remote or from there.
func (q *question) goesIn(p xfrm.Pair, e Ends) bool {
	return p.Local.Contains(e.Src) && p.Remote.Contains(e.Dst) && q.fits(p, e.SPort, e.DPort)
}

func (q *question) comesFrom(p xfrm.Pair, e Ends) bool {
	return p.Remote.Contains(e.Src) && p.Local.Contains(e.Dst) && q.fits(p, e.DPort, e.SPort)
}

// fits reports whether protocol and ports lie in a pair's selectors. For ICMP the
// selectors have the type as the local port and the code as the remote one.
func (q *question) fits(p xfrm.Pair, local, remote uint16) bool {
	if p.Proto != 0 && p.Proto != q.Proto {
		return false
	}
	switch p.Proto {
	case xfrm.TCP, xfrm.UDP, xfrm.SCTP:
	case xfrm.ICMP, xfrm.ICMPv6:
		if p.LocalPort.Any() || !q.icmp() {
			return true
		}
		local, remote = uint16(q.ICMPType), uint16(q.ICMPCode)
	default:
		return true
	}
	return portFits(p.LocalPort, local) && portFits(p.RemotePort, remote)
}

func portFits(m xfrm.PortMatch, port uint16) bool { return (port^m.Port)&m.Mask == 0 }

// carries reports whether the packet is the carrier of an overlay device's packets.
func (q *question) carries(o *Overlay) bool {
	e := q.Received
	return !o.VTI && e.Src == o.Remote && e.Dst == o.Local && q.Proto == o.Proto && (o.Port == 0 || e.DPort == o.Port)
}

// overlayDevice returns the overlay whose device the packet came out of.
func (q *question) overlayDevice() *Overlay {
	for i := range q.Overlays {
		for _, name := range q.Overlays[i].Devices {
			if name == q.In {
				return &q.Overlays[i]
			}
		}
	}
	return nil
}

// intoDevice reports whether the packet leaves by a device into which only tunnel
// traffic goes.
func (q *question) intoDevice() bool {
	for _, d := range q.Devices {
		if d.Name == q.Out {
			return true
		}
	}
	return false
}

// fromDevice reports whether the packet came out of an xfrm interface.
func (q *question) fromDevice() bool {
	for _, d := range q.Devices {
		if d.Xfrm && d.Name == q.In {
			return true
		}
	}
	return false
}

var (
	notSources      = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("::/128"), netip.MustParsePrefix("fe80::/10")}
	notDestinations = []netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fe80::/10")}
)

// neverJudged reports whether the packet is none that a tunnel's site could send, or
// keeps the link itself alive. Own is true if this host is the neighbour.
func (q *question) neverJudged(e Ends, own bool) bool {
	for _, p := range notSources {
		if p.Contains(e.Src) {
			return true
		}
	}
	for _, p := range notDestinations {
		if p.Contains(e.Dst) {
			return true
		}
	}
	return own && q.family == xfrm.IPv6 && q.Proto == xfrm.ICMPv6 && q.ICMPType >= 133 && q.ICMPType <= 136
}

// serves reports whether the packet is this host's own IKE, ESP, AH or DHCP. Local is
// its end on this host.
func (q *question) serves(local netip.Addr, port, other uint16) bool {
	switch q.Proto {
	case xfrm.ESP, xfrm.AH:
		return true
	case xfrm.UDP:
	default:
		return false
	}
	if port == IKE || port == NATT || q.family == xfrm.IPv4 && port == 68 && other == 67 || q.family == xfrm.IPv6 && port == 546 && other == 547 {
		return true
	}
	for _, at := range q.EncapPorts {
		if at == netip.AddrPortFrom(local, port) {
			return true
		}
	}
	return false
}

// exemptAt reports whether an address on an interface lies in a network that keeps its
// traffic although a guard's remote selector covers it.
func exemptAt(g *GuardFacts, device string, a netip.Addr) bool {
	for _, n := range g.Exempt {
		if n.Device == device && n.Prefix.Contains(a) {
			return a != g.Peer
		}
	}
	return false
}
