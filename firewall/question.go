package firewall

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// IKE and NATT are the UDP ports of IKE and of ESP in UDP (RFC 3947, RFC 3948).
const (
	IKE  = 500
	NATT = 4500
)

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

// neverJudged reports whether the packet cannot come from a tunnel's site, or serves the
// link itself. Own is true if this host is the neighbour.
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

func ipInIP(f xfrm.Family) xfrm.Proto {
	if f == xfrm.IPv6 {
		return xfrm.IPv6in
	}
	return xfrm.IPIP
}

// contains is Prefix.Contains for an address that may be invalid.
func contains(p netip.Prefix, a netip.Addr) bool { return a.IsValid() && p.Contains(a) }

func containsString(list []string, s string) bool { return slices.Contains(list, s) }

// inClear: the packet came in from outside without any evidence.
func (q *question) inClear() bool {
	return q.Way != FromHost && !q.decrypted() && q.evidence == NoCase
}

// staysInside: the packet leaves by an interface behind which its source lives, and no
// stranger is there.
func (q *question) staysInside() bool {
	return slices.ContainsFunc(q.Inside, func(n Network) bool { return n.Device == q.Out && n.Prefix.Contains(q.AfterDNAT.Src) })
}

// outInClear: the packet leaves, by no tunnel device and no VRF, and is not this host's own IKE,
// ESP, AH or DHCP.
func (q *question) outInClear() bool {
	e := q.AfterDNAT
	return q.Way != ToHost && !q.intoDevice() && !containsString(q.VRFs, q.Out) && !q.staysInside() && !q.neverJudged(e, q.SrcLocal) &&
		!(q.SrcLocal && q.serves(e.Src, e.SPort, e.DPort))
}

// guard returns the guard that decides: the first that applies, unless a guard or an
// exception that excepts names comes before it.
func (q *question) guard(excepts, applies func(g *GuardFacts) bool) *GuardFacts {
	for i := range q.Guards {
		g := &q.Guards[i]
		switch {
		case g.Family() != q.family:
		case excepts(g):
			return nil
		case !g.Exception && applies(g):
			return g
		}
	}
	return nil
}

// exception restricts a condition to exceptions.
func exception(fits func(g *GuardFacts) bool) func(g *GuardFacts) bool {
	return func(g *GuardFacts) bool { return g.Exception && fits(g) }
}

// carrier returns the overlay of a carrier packet.
func (q *question) carrier() *Overlay {
	for i := range q.Overlays {
		if q.carries(&q.Overlays[i]) {
			return &q.Overlays[i]
		}
	}
	return nil
}

func (q *question) onWAN(name string) bool { return len(q.WAN) == 0 || slices.Contains(q.WAN, name) }

func (q *question) isIPsec(local netip.Addr, port uint16) bool {
	if q.Proto == xfrm.ESP || q.Proto == xfrm.AH {
		return true
	}
	return q.Proto == xfrm.UDP && (port == IKE || port == NATT || slices.Contains(q.EncapPorts, netip.AddrPortFrom(local, port)))
}

// ownedByAnother: the most specific live claims that have the source are all of SAs
// that the packet did not come out of.
func (q *question) ownedByAnother() bool {
	longest, own := -1, false
	for i := range q.Claims {
		c := &q.Claims[i]
		if !c.Live || c.PolicyOnly || !c.Pair.Remote.Contains(q.Received.Src) || c.Pair.Remote.Bits() < longest {
			continue
		}
		if c.Pair.Remote.Bits() > longest {
			longest, own = c.Pair.Remote.Bits(), false
		}
		own = own || q.cameOutOf(c.In)
	}
	return longest >= 0 && !own
}
