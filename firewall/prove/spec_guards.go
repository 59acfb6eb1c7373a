package prove

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// deciding returns the packets that a guard decides: the first that applies, unless a
// guard that excepts names comes before it.
func (q *spec) deciding(excepts, applies func(g *firewall.GuardFacts) Set) Set {
	result, excepted := None, None
	var row, exceptions []Set
	flush := func() {
		if len(row) > 0 {
			result = q.Or(result, q.Minus(q.Union(row...), excepted))
			row = nil
		}
	}
	for _, g := range q.guards {
		if set := excepts(g); set != None {
			flush()
			exceptions = append(exceptions, set)
		}
		if g.Exception {
			continue
		}
		if set := applies(g); set != None {
			if len(exceptions) > 0 {
				excepted = q.Or(excepted, q.Union(exceptions...))
				exceptions = nil
			}
			row = append(row, set)
		}
	}
	flush()
	return result
}

// exception restricts a condition to exceptions.
func exception(fits func(g *firewall.GuardFacts) Set) func(g *firewall.GuardFacts) Set {
	return func(g *firewall.GuardFacts) Set {
		if !g.Exception {
			return None
		}
		return fits(g)
	}
}

// inClear are the packets that came in from outside without any evidence.
func (q *spec) inClear() Set {
	if q.way == firewall.FromHost {
		return None
	}
	return q.Minus(q.decrypted.Not(), q.verified)
}

var (
	notSources      = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("::/128"), netip.MustParsePrefix("fe80::/10")}
	notDestinations = []netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fe80::/10")}
)

// neverJudged returns the packets that no tunnel's site could send, or that keep the
// link alive. Own are the packets for which this host is the neighbour.
func (q *spec) neverJudged(e ends, own Set) Set {
	set := q.Or(q.withinAny(e.src, notSources), q.withinAny(e.dst, notDestinations))
	if q.Family == xfrm.IPv6 {
		set = q.Or(set, q.And(own, q.And(q.isICMP, q.Range(q.icmpType, 133, 136))))
	}
	return set
}

// serves returns this host's own IKE, ESP, AH and DHCP. Local is the place of its end.
func (q *spec) serves(local, port, other field) Set {
	dhcp := q.And(q.number(port, 68), q.number(other, 67))
	if q.Family == xfrm.IPv6 {
		dhcp = q.And(q.number(port, 546), q.number(other, 547))
	}
	udp := q.Union(dhcp, q.number(port, firewall.IKE), q.number(port, firewall.NATT), q.encapPorts(local, port))
	return q.Union(q.number(q.proto, uint64(xfrm.ESP)), q.number(q.proto, uint64(xfrm.AH)), q.And(q.number(q.proto, uint64(xfrm.UDP)), udp))
}

func (q *spec) encapPorts(local, port field) Set {
	var sets []Set
	for _, at := range q.EncapPorts {
		sets = append(sets, q.And(q.single(local, at.Addr()), q.number(port, uint64(at.Port()))))
	}
	return q.Union(sets...)
}

// exemptAt returns the packets with an address in a network that keeps its traffic.
func (q *spec) exemptAt(g *firewall.GuardFacts, device func(string) Set, at field) Set {
	if len(g.Exempt) == 0 {
		return None
	}
	var sets []Set
	for _, n := range g.Exempt {
		sets = append(sets, q.And(device(n.Device), q.within(at, n.Prefix)))
	}
	return q.Minus(q.Union(sets...), q.single(at, g.Peer))
}

func (q *spec) fromDevice() Set {
	var sets []Set
	for _, d := range q.Devices {
		if d.Xfrm {
			sets = append(sets, q.cameInBy(d.Name))
		}
	}
	return q.Union(sets...)
}

func (q *spec) intoDevice() Set {
	var sets []Set
	for _, d := range q.Devices {
		sets = append(sets, q.goesOutBy(d.Name))
	}
	return q.Union(sets...)
}

// fitting are the packets that have the mark of an exception.
func (q *spec) fitting(g *firewall.GuardFacts) Set { return q.markIs(g.Mark.Value, g.Mark.Mask) }

// spoofedAsReceived and spoofedAsRouted are packets in clear from a remote selector to
// its local one, before DNAT and behind it (case 6). As received, an exception of either
// direction holds, whatever its mark.
func (q *spec) spoofedAsReceived() Set {
	return q.spoofed(q.received, q.Bit(q.dstLocal), func(g *firewall.GuardFacts) Set { return truthOf(g.Inbound()) })
}

func (q *spec) spoofedAsRouted() Set {
	toHost := q.way == firewall.ToHost
	return q.spoofed(q.routed, truthOf(toHost), func(g *firewall.GuardFacts) Set {
		if toHost && !g.Enters() || !toHost && !g.Passes() {
			return None
		}
		return q.fitting(g)
	})
}

func (q *spec) spoofed(e ends, toHost Set, decides func(*firewall.GuardFacts) Set) Set {
	may := q.Minus(q.inClear(), q.Union(q.fromDevice(), q.neverJudged(e, toHost), q.And(toHost, q.serves(e.dst, e.dport, e.sport))))
	fits := func(g *firewall.GuardFacts) Set {
		if of := decides(g); of != None {
			return q.And(of, q.comesFrom(g.Pair(), e))
		}
		return None
	}
	return q.And(may, q.deciding(exception(fits), func(g *firewall.GuardFacts) Set { return q.Minus(fits(g), q.exemptAt(g, q.cameInBy, e.src)) }))
}

// spoofedErrors are ICMP errors in clear about a flow of a guarded pair (case 6).
func (q *spec) spoofedErrors() Set {
	may := q.And(q.inClear(), q.And(q.isICMP, q.Bit(q.related)))
	may = q.Minus(may, q.And(q.Bit(q.dstLocal), q.ownFlow()))
	return q.And(may, q.deciding(exception(func(g *firewall.GuardFacts) Set {
		if !g.Inbound() {
			return None
		}
		return q.Or(q.aboutPair(g))
	}), func(g *firewall.GuardFacts) Set {
		if !g.Inbound() {
			return None
		}
		spares := func(f field) Set {
			if len(g.Exempt) == 0 {
				return None
			}
			return q.And(q.within(f, g.Remote), q.exemptAt(g, q.cameInBy, f))
		}
		began, answered := q.aboutPair(g)
		spared := q.Or(spares(q.origSrc), spares(q.replySrc))
		return q.Or(q.Minus(began, q.Minus(spared, q.single(q.origSrc, g.Peer))), q.Minus(answered, q.Minus(spared, q.single(q.replySrc, g.Peer))))
	}))
}

// ownFlow are packets about this host's own IKE or ESP.
func (q *spec) ownFlow() Set {
	own := func(port field) Set {
		sets := []Set{q.number(port, firewall.IKE), q.number(port, firewall.NATT)}
		for _, at := range q.EncapPorts {
			if xfrm.FamilyOf(at.Addr()) == q.Family {
				sets = append(sets, q.number(port, uint64(at.Port())))
			}
		}
		return q.Union(sets...)
	}
	udp := q.And(q.number(q.flowProto, uint64(xfrm.UDP)), q.Or(own(q.origSPort), own(q.origDPort)))
	return q.Union(q.number(q.flowProto, uint64(xfrm.ESP)), q.number(q.flowProto, uint64(xfrm.AH)), udp)
}

// aboutPair are errors for a guard's local selector, about a flow that the remote end
// began, and about one that it answers.
func (q *spec) aboutPair(g *firewall.GuardFacts) (began, answered Set) {
	began, answered = q.within(q.origSrc, g.Remote), q.within(q.replySrc, g.Remote)
	if !g.LocalPort.Any() || !g.RemotePort.Any() {
		if g.Proto == xfrm.ICMP || g.Proto == xfrm.ICMPv6 {
			return None, None
		}
		ports := func(source, destination xfrm.PortMatch) Set {
			c := q.condition()
			c.masked(q.origSPort, source)
			c.masked(q.origDPort, destination)
			return c.set()
		}
		began, answered = q.And(began, ports(g.RemotePort, g.LocalPort)), q.And(answered, ports(g.LocalPort, g.RemotePort))
	}
	set := q.within(q.dst, g.Local)
	if g.Proto != 0 {
		set = q.And(set, q.number(q.flowProto, uint64(g.Proto)))
	}
	return q.And(set, began), q.And(set, answered)
}

// injected are packets of strangers that the gateway would encrypt (case 6b).
func (q *spec) injected() Set {
	stranger := q.Or(q.Bit(q.misrouted), q.fromNowhere())
	may := q.Minus(q.And(q.inClear(), stranger), q.Or(q.inAny(q.Asymmetric), q.neverJudged(q.received, q.Bit(q.dstLocal))))
	return q.And(may, q.outwards(q.received))
}

// outwards are packets that an outbound guard decides by their ends.
func (q *spec) outwards(e ends) Set {
	fits := func(g *firewall.GuardFacts) Set {
		if !g.Outbound() {
			return None
		}
		return q.goesIn(g.Pair(), e)
	}
	return q.deciding(exception(fits), fits)
}

// fromNowhere are packets in by an uplink, of a local selector's source that does not
// live behind this gateway.
func (q *spec) fromNowhere() Set {
	return q.And(q.inAny(q.Uplinks), q.Minus(q.withinAny(q.src, q.PartlyBehind), q.withinAny(q.src, q.Behind)))
}

// injectedAfterDNAT is case 6b for packets that DNAT leads into a tunnel.
func (q *spec) injectedAfterDNAT() Set {
	if q.way != firewall.Through {
		return None
	}
	may := q.Minus(q.And(q.inClear(), q.And(q.encrypted(), q.Minus(q.Bit(q.dnat), q.Bit(q.reply)))), q.Or(q.fromDevice(), q.inAny(q.Asymmetric)))
	// The most specific home of a source decides; of one prefix any device will do.
	elsewhere, decided := None, None
	for i := 0; i < len(q.Homes); {
		p := q.Homes[i].Prefix
		var devices []string
		for ; i < len(q.Homes) && q.Homes[i].Prefix == p; i++ {
			devices = append(devices, q.Homes[i].Device)
		}
		lives := q.Minus(q.within(q.src, p), decided)
		// A wider home spares no packet that a narrower one has decided, but a device of
		// any prefix that comes first does.
		elsewhere = q.Or(elsewhere, q.Minus(lives, q.inAny(devices)))
		decided = q.Or(decided, lives)
	}
	atHome := q.Minus(decided, elsewhere)
	nowhere := q.And(q.Minus(q.fromNowhere(), atHome), q.outwards(q.routed))
	return q.And(may, q.Or(elsewhere, nowhere))
}

// outInClear are packets that leave by no tunnel device and are not this host's own.
func (q *spec) outInClear() Set {
	if q.way == firewall.ToHost {
		return None
	}
	own := q.Bit(q.srcLocal)
	stays := None
	for _, n := range q.Inside {
		if xfrm.FamilyOf(n.Prefix.Addr()) == q.Family {
			stays = q.Or(stays, q.And(q.goesOutBy(n.Device), q.within(q.src, n.Prefix)))
		}
	}
	return q.Union(stays, q.intoDevice(), q.outAny(q.VRFs), q.neverJudged(q.routed, own), q.And(own, q.serves(q.src, q.sport, q.routedDPort))).Not()
}

func (q *spec) outbound(g *firewall.GuardFacts) Set {
	if !g.Outbound() {
		return None
	}
	return q.And(q.goesIn(g.Pair(), q.routed), q.fitting(g))
}

// leakOf are a guard's packets that must not leave in clear. In case 8d the local end
// says nothing.
func (q *spec) leakOf(g *firewall.GuardFacts) Set {
	pair := g.Pair()
	if g.ByDestination {
		pair.Local, pair.LocalPort = netip.PrefixFrom(pair.Local.Addr(), 0).Masked(), localAny(pair)
	}
	return q.Minus(q.goesIn(pair, q.routed), q.exemptAt(g, q.goesOutBy, q.routedDst))
}

// localAny is a pair's local port where the local end says nothing. For ICMP it is the
// type, which is no part of an end.
func localAny(p xfrm.Pair) xfrm.PortMatch {
	if p.Proto == xfrm.ICMP || p.Proto == xfrm.ICMPv6 {
		return p.LocalPort
	}
	return xfrm.PortMatch{}
}

// leaks are packets that leave in clear although a guard names them (cases 8, 8d).
func (q *spec) leaks() Set {
	return q.And(q.Minus(q.outInClear(), q.encrypted()), q.deciding(exception(q.outbound), q.leakOf))
}

// refusedLeaks are the leaks that are rejected, so that their sender is told: forwarded
// ones, and this host's own unless the kernel holds them.
func (q *spec) refusedLeaks() Set {
	switch q.way {
	case firewall.ToHost:
		return None
	case firewall.Through:
		return q.leaks()
	}
	return q.And(q.Minus(q.outInClear(), q.encrypted()), q.deciding(
		func(g *firewall.GuardFacts) Set {
			if !g.Exception && !g.Held {
				return None
			}
			return q.outbound(g)
		},
		func(g *firewall.GuardFacts) Set {
			if g.Held {
				return None
			}
			return q.leakOf(g)
		}))
}

// leaksByNAT are packets of flows that were NATed before the tunnel came up (case 8b).
func (q *spec) leaksByNAT() Set {
	snat, dnat := q.Minus(q.Bit(q.snat), q.Bit(q.reply)), q.And(q.Bit(q.dnat), q.Bit(q.reply))
	return q.And(q.outInClear(), q.deciding(exception(q.outbound), func(g *firewall.GuardFacts) Set {
		if g.Local.Bits() == 0 {
			return None
		}
		rewritten := q.Or(q.Minus(snat, q.withinAny(q.replyDst, g.Locals)), q.Minus(dnat, q.withinAny(q.origDst, g.Locals)))
		return q.And(q.Minus(q.outbound(g), q.exemptAt(g, q.goesOutBy, q.routedDst)), rewritten)
	}))
}

// leakedErrors are ICMP errors to a remote selector in clear that quote a packet of the
// pair, or may (case 8c).
func (q *spec) leakedErrors() Set {
	var kinds []Set
	for _, kind := range []uint64{3, 11, 12} {
		kinds = append(kinds, q.number(q.icmpType, kind))
	}
	errors := q.Union(kinds...)
	if q.Family == xfrm.IPv6 {
		errors = q.Range(q.icmpType, 1, 4)
	}
	may := q.And(q.Minus(q.outInClear(), q.encrypted()), q.And(q.isICMP, errors))
	return q.And(may, q.deciding(
		exception(func(g *firewall.GuardFacts) Set {
			if !g.Outbound() {
				return None
			}
			return q.And(q.fitting(g), q.And(q.within(q.src, g.Local), q.within(q.routedDst, g.Remote)))
		}),
		func(g *firewall.GuardFacts) Set {
			about := func(f, other field) Set {
				set := q.within(f, g.Local)
				if g.Local.Overlaps(g.Remote) {
					set = q.And(set, q.within(other, g.Remote))
				}
				return set
			}
			flows := q.Union(q.Bit(q.related).Not(), about(q.origDst, q.origSrc), about(q.origSrc, q.origDst), q.within(q.replySrc, g.Local))
			return q.Minus(q.And(q.within(q.routedDst, g.Remote), flows), q.exemptAt(g, q.goesOutBy, q.routedDst))
		}))
}
