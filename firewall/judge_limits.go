package firewall

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// isIPsecToHost: IKE, ESP and AH come and go, tunnel up or not: the first road warrior
// must get in.
func (q *question) isIPsecToHost() bool {
	e := q.AfterDNAT
	switch {
	case q.Way == Through:
		return false
	case q.Way == ToHost:
		return q.onWAN(q.In) && q.isIPsec(e.Dst, e.DPort)
	}
	return q.onWAN(q.Out) && q.isIPsec(e.Src, e.SPort)
}

// isRestrictedIn: out of a tunnel that has no such service in its in: list.
func (q *question) isRestrictedIn() bool {
	if q.Way == FromHost {
		return false
	}
	return slices.ContainsFunc(q.Restrictions, func(r Restriction) bool {
		return r.In != nil && q.isOf(&r) && !q.carriesSmall(&r) && !q.isAllowed(&r, r.In, q.AfterDNAT.Src, q.AfterDNAT.Dst)
	})
}

// isOf: the packet came out of a restricted tunnel, or out of its overlay: verified,
// or from an address that no tunnel of the device may send from.
func (q *question) isOf(r *Restriction) bool {
	for _, s := range r.Sources {
		if s.Prefix.Contains(q.AfterDNAT.Src) && q.cameOutOf(s.SA) {
			return true
		}
	}
	return !q.decrypted() && slices.ContainsFunc(r.Overlays, func(o Overlay) bool {
		if q.evidence == Case4 {
			return slices.Contains(o.Devices, q.In) && o.sends(q.AfterDNAT.Src)
		}
		return o.Sources != nil && o.Devices[0] == q.In
	})
}

// carriesSmall: the carrier of a small packet beside IPComp, which is restricted itself.
func (q *question) carriesSmall(r *Restriction) bool {
	return slices.ContainsFunc(q.IPComp, func(c IPCompCarrier) bool {
		return c.Tunnel == r.Tunnel && c.Remote == q.AfterDNAT.Src && c.Local == q.AfterDNAT.Dst && q.Proto == ipInIP(q.family)
	})
}

// isRestrictedOut: into a tunnel that has no such service in its out: list, or no such
// prefix in its remote: list.
func (q *question) isRestrictedOut() bool {
	if q.Way == ToHost {
		return false
	}
	return slices.ContainsFunc(q.Restrictions, func(r Restriction) bool {
		if !q.isInto(&r) {
			return false
		}
		beyond := r.Remote != nil && !slices.ContainsFunc(r.Remote, func(p netip.Prefix) bool { return p.Contains(q.AfterDNAT.Dst) })
		return beyond || r.Out != nil && !q.isAllowed(&r, r.Out, q.AfterDNAT.Dst, q.AfterDNAT.Src)
	})
}

// isInto: the packet goes into a restricted tunnel.
func (q *question) isInto(r *Restriction) bool {
	for _, d := range r.Destinations {
		if d.Prefix.Contains(q.AfterDNAT.Dst) && q.goesInto(d.SA) {
			return true
		}
	}
	return q.Out != "" && slices.ContainsFunc(r.Into, func(i Into) bool {
		return i.Device == q.Out && (!i.Remote.IsValid() || i.Remote.Contains(q.AfterDNAT.Dst) && !prefix.OverlapsAny(prefix.Single(q.AfterDNAT.Dst), i.Except))
	})
}

// isAllowed: a reply, a listed service, or the carrier of an overlay device's packets,
// which are restricted themselves.
func (q *question) isAllowed(r *Restriction, services []Service, remote, local netip.Addr) bool {
	if q.Flow.Related || q.Flow.Established {
		return true
	}
	return q.isListed(services) || slices.ContainsFunc(r.Overlays, func(o Overlay) bool {
		return !o.VTI && o.Remote == remote && o.Local == local && o.Proto == q.Proto && (o.Port == 0 || o.Port == q.AfterDNAT.DPort)
	})
}

func (q *question) isListed(services []Service) bool {
	return slices.ContainsFunc(services, func(s Service) bool {
		if s.Proto == xfrm.ICMP && q.family == xfrm.IPv6 {
			s.Proto = xfrm.ICMPv6
		}
		port := q.AfterDNAT.DPort
		return s.Proto == q.Proto && (s.Ports == Ports{} || s.Ports.Lo <= port && port <= s.Ports.Hi)
	})
}

// isLetIn: verified traffic is accepted, unless the verdict is another firewall's.
func (q *question) isLetIn() bool {
	return q.Way != FromHost && !q.MarkOnly && q.evidence != NoCase
}

// isStranger: a new unverified flow that comes in where peers are, and would enter a
// tunnel that takes any source (case 8e).
func (q *question) isStranger() bool {
	if q.Way != Through || q.evidence != NoCase || q.Flow.Related || q.Flow.Established {
		return false
	}
	return slices.ContainsFunc(q.Strangers, func(s Stranger) bool {
		return s.In == q.In && (s.Out != "" && s.Out == q.Out || s.Remote.IsValid() && s.Remote.Contains(q.AfterDNAT.Dst) && len(q.Ahead) > 0)
	})
}

// isLetOut: traffic into tunnels is accepted: packets that will be encrypted, and those
// that enter a tunnel device.
func (q *question) isLetOut() bool { return q.Way != ToHost && (len(q.Ahead) > 0 || q.intoDevice()) }

// underLockdown: the packet came in by a WAN interface of a host under lockdown, and
// nothing before accepted it.
func (q *question) underLockdown() bool {
	return q.Lockdown != nil && q.Way != FromHost && q.onWAN(q.In) && q.evidence == NoCase && (q.isStranger() || !(q.Way == Through && q.isLetOut()))
}

// LimitedBroadcast returns the address of all hosts on a link. No router forwards packets
// to it, and no address match of the kernel calls it this host's own.
func LimitedBroadcast() netip.Addr { return netip.AddrFrom4([4]byte{255, 255, 255, 255}) }

// isListedService: under lockdown replies, ICMP errors, neighbour discovery, DHCP and
// the listed services come in. None of them is a stranger's way into a tunnel.
func (q *question) isListedService() bool {
	if !q.underLockdown() || q.isStranger() {
		return false
	}
	e, toHost := q.AfterDNAT, q.Way == ToHost
	switch {
	case q.Flow.Related, q.Flow.Established:
		return true
	case q.family == xfrm.IPv6 && q.Proto == xfrm.ICMPv6 && q.ICMPType >= 133 && q.ICMPType <= 136:
		return true
	case q.family == xfrm.IPv6 && q.Proto == xfrm.UDP && e.SPort == 547 && e.DPort == 546 && toHost:
		return true
	case q.family == xfrm.IPv4 && q.Proto == xfrm.UDP && e.SPort == 67 && e.DPort == 68 && (toHost || e.Dst == LimitedBroadcast()):
		return true
	}
	return toHost && q.isListed(q.Lockdown.Services)
}

// isLockedOut: all other packets that come in by a WAN interface under lockdown.
func (q *question) isLockedOut() bool { return q.underLockdown() && !q.isListedService() }

// isOwnFlow: the error is about this host's own IKE or ESP: it tells the path MTU of the
// tunnel itself.
func (q *question) isOwnFlow() bool {
	f := &q.Flow
	switch f.Proto {
	case xfrm.ESP, xfrm.AH:
		return true
	case xfrm.UDP:
	default:
		return false
	}
	// A port of the configuration's may be another service's elsewhere, so it tells by this
	// host's end of the flow alone.
	own := func(a netip.Addr, port uint16) bool {
		return port == IKE || port == NATT || slices.Contains(q.EncapPorts, netip.AddrPortFrom(a, port))
	}
	return own(f.OrigSrc, f.OrigSPort) || own(f.OrigDst, f.OrigDPort)
}

// flowPorts returns the tests of a flow's ports against a guard's pair: of flows that the
// remote end began, and of those that it answers. It reports false for a pair with an
// ICMP type, because no rule tells its flows from others.
func flowPorts(g *GuardFacts) (began, answered func(*Flow) bool, ok bool) {
	if g.LocalPort.Any() && g.RemotePort.Any() {
		all := func(*Flow) bool { return true }
		return all, all, true
	}
	if g.Proto == xfrm.ICMP || g.Proto == xfrm.ICMPv6 {
		return nil, nil, false
	}
	began = func(f *Flow) bool { return portFits(g.RemotePort, f.OrigSPort) && portFits(g.LocalPort, f.OrigDPort) }
	answered = func(f *Flow) bool { return portFits(g.LocalPort, f.OrigSPort) && portFits(g.RemotePort, f.OrigDPort) }
	return began, answered, true
}
