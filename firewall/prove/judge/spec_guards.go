package judge

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// deciding returns the packets that a guard decides: the first that applies, unless a
// guard that excepts names comes before it.
func (q *Packets) deciding(excepts, applies func(g *firewall.GuardFacts) space.Set) space.Set {
	result, excepted := space.None, space.None
	var row, exceptions []space.Set
	flush := func() {
		if len(row) > 0 {
			result = q.Or(result, q.Minus(q.Union(row...), excepted))
			row = nil
		}
	}
	for _, g := range q.guards {
		if set := excepts(g); set != space.None {
			flush()
			exceptions = append(exceptions, set)
		}
		if g.Exception {
			continue
		}
		if set := applies(g); set != space.None {
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
func exception(fits func(g *firewall.GuardFacts) space.Set) func(g *firewall.GuardFacts) space.Set {
	return func(g *firewall.GuardFacts) space.Set {
		if !g.Exception {
			return space.None
		}
		return fits(g)
	}
}

// inClear are the packets that came in from outside without any evidence.
func (q *Packets) inClear() space.Set {
	if q.Way == firewall.FromHost {
		return space.None
	}
	return q.Minus(q.Decrypted.Not(), q.Verified)
}

var (
	notSources      = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("::/128"), netip.MustParsePrefix("fe80::/10")}
	notDestinations = []netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("ff00::/8"), netip.MustParsePrefix("fe80::/10")}
)

// neverJudged returns the packets that no tunnel's site could send, or that keep the
// link alive. Own are the packets for which this host is the neighbour.
func (q *Packets) neverJudged(e ends, own space.Set) space.Set {
	set := q.Or(q.LiesInAny(e.src, notSources), q.LiesInAny(e.dst, notDestinations))
	if q.Family == xfrm.IPv6 {
		set = q.Or(set, q.And(own, q.And(q.isICMP, q.Range(q.ICMPType, 133, 136))))
	}
	return set
}

// serves returns this host's own IKE, ESP, AH and DHCP. Local is the place of its end.
func (q *Packets) serves(local space.Classed, port, other space.Field) space.Set {
	dhcp := q.And(q.Number(port, 68), q.Number(other, 67))
	if q.Family == xfrm.IPv6 {
		dhcp = q.And(q.Number(port, 546), q.Number(other, 547))
	}
	udp := q.Union(dhcp, q.Number(port, firewall.IKE), q.Number(port, firewall.NATT), q.encapPorts(local, port))
	return q.Union(q.Number(q.Proto, uint64(xfrm.ESP)), q.Number(q.Proto, uint64(xfrm.AH)), q.And(q.Number(q.Proto, uint64(xfrm.UDP)), udp))
}

func (q *Packets) encapPorts(local space.Classed, port space.Field) space.Set {
	var sets []space.Set
	for _, at := range q.EncapPorts {
		sets = append(sets, q.And(q.single(local, at.Addr()), q.Number(port, uint64(at.Port()))))
	}
	return q.Union(sets...)
}

// exemptAt returns the packets with an address in a network that keeps its traffic.
func (q *Packets) exemptAt(g *firewall.GuardFacts, device func(string) space.Set, at space.Classed) space.Set {
	if len(g.Exempt) == 0 {
		return space.None
	}
	var sets []space.Set
	for _, n := range g.Exempt {
		sets = append(sets, q.And(device(n.Device), q.LiesIn(at, n.Prefix)))
	}
	return q.Minus(q.Union(sets...), q.single(at, g.Peer))
}

func (q *Packets) fromDevice() space.Set {
	var sets []space.Set
	for _, d := range q.Devices {
		if d.Xfrm {
			sets = append(sets, q.cameInBy(d.Name))
		}
	}
	return q.Union(sets...)
}

func (q *Packets) intoDevice() space.Set {
	var sets []space.Set
	for _, d := range q.Devices {
		sets = append(sets, q.GoesOutBy(d.Name))
	}
	return q.Union(sets...)
}

// fitting are the packets that have the mark of an exception.
func (q *Packets) fitting(g *firewall.GuardFacts) space.Set {
	return q.MarkIs(g.Mark.Value, g.Mark.Mask)
}

// NeverJudged are packets that no tunnel's site could send, by their addresses as they come.
func (q *Packets) NeverJudged() space.Set { return q.neverJudged(q.received, q.Bit(q.DstLocal)) }

// Unjudged are packets that no guard judges: those that no site sends, this host's own, and
// those of tunnel devices and VRFs.
func (q *Packets) Unjudged() space.Set {
	if q.Way == firewall.FromHost {
		return q.judgedNowhere()
	}
	toHost := space.TruthOf(q.Way == firewall.ToHost)
	of := func(e ends, local space.Set) space.Set {
		return q.Or(q.neverJudged(e, local), q.And(local, q.serves(e.dst, e.dport, e.sport)))
	}
	return q.Union(q.fromDevice(), of(q.received, q.Bit(q.DstLocal)), of(q.routed, toHost), q.judgedNowhere())
}

// SpoofedAsReceived are packets in clear from a remote selector to its local one, by their
// addresses before DNAT (case 6). An exception of either direction holds, whatever its mark.
func (q *Packets) SpoofedAsReceived() space.Set {
	return q.spoofed(q.received, q.Bit(q.DstLocal), func(g *firewall.GuardFacts) space.Set { return space.TruthOf(g.Inbound()) })
}

// SpoofedAsRouted are such packets by their addresses behind DNAT. An exception of their
// direction holds that has their mark.
func (q *Packets) SpoofedAsRouted() space.Set {
	toHost := q.Way == firewall.ToHost
	return q.spoofed(q.routed, space.TruthOf(toHost), func(g *firewall.GuardFacts) space.Set {
		if toHost && !g.Enters() || !toHost && !g.Passes() {
			return space.None
		}
		return q.fitting(g)
	})
}

func (q *Packets) spoofed(e ends, toHost space.Set, decides func(*firewall.GuardFacts) space.Set) space.Set {
	may := q.Minus(q.inClear(), q.Union(q.fromDevice(), q.neverJudged(e, toHost), q.And(toHost, q.serves(e.dst, e.dport, e.sport))))
	fits := func(g *firewall.GuardFacts) space.Set {
		if of := decides(g); of != space.None {
			return q.And(of, q.comesFrom(g.Pair(), e))
		}
		return space.None
	}
	return q.And(may, q.deciding(exception(fits), func(g *firewall.GuardFacts) space.Set { return q.Minus(fits(g), q.exemptAt(g, q.cameInBy, e.src)) }))
}

// SpoofedErrors are ICMP errors in clear about a flow of a guarded pair (case 6).
func (q *Packets) SpoofedErrors() space.Set {
	may := q.And(q.inClear(), q.And(q.isICMP, q.Bit(q.Related)))
	may = q.Minus(may, q.And(q.Bit(q.DstLocal), q.ownFlow()))
	return q.And(may, q.deciding(exception(func(g *firewall.GuardFacts) space.Set {
		if !g.Inbound() {
			return space.None
		}
		return q.Or(q.aboutPair(g))
	}), func(g *firewall.GuardFacts) space.Set {
		if !g.Inbound() {
			return space.None
		}
		spares := func(f space.Classed) space.Set {
			if len(g.Exempt) == 0 {
				return space.None
			}
			return q.And(q.LiesIn(f, g.Remote), q.exemptAt(g, q.cameInBy, f))
		}
		began, answered := q.aboutPair(g)
		spared := q.Or(spares(q.OrigSrc), spares(q.ReplySrc))
		return q.Or(q.Minus(began, q.Minus(spared, q.single(q.OrigSrc, g.Peer))), q.Minus(answered, q.Minus(spared, q.single(q.ReplySrc, g.Peer))))
	}))
}

// ownFlow are packets about this host's own IKE or ESP.
func (q *Packets) ownFlow() space.Set {
	own := func(address space.Classed, port space.Field) space.Set {
		return q.Union(q.Number(port, firewall.IKE), q.Number(port, firewall.NATT), q.encapPorts(address, port))
	}
	udp := q.And(q.Number(q.FlowProto, uint64(xfrm.UDP)), q.Or(own(q.OrigSrc, q.OrigSPort), own(q.OrigDst, q.OrigDPort)))
	return q.Union(q.Number(q.FlowProto, uint64(xfrm.ESP)), q.Number(q.FlowProto, uint64(xfrm.AH)), udp)
}

// aboutPair are errors for a guard's local selector, about a flow that the remote end
// began, and about one that it answers.
func (q *Packets) aboutPair(g *firewall.GuardFacts) (began, answered space.Set) {
	began, answered = q.LiesIn(q.OrigSrc, g.Remote), q.LiesIn(q.ReplySrc, g.Remote)
	if !g.LocalPort.Any() || !g.RemotePort.Any() {
		if g.Proto.IsICMP() {
			return space.None, space.None
		}
		ports := func(source, destination xfrm.PortMatch) space.Set {
			c := q.Condition()
			c.Masked(q.OrigSPort, source)
			c.Masked(q.OrigDPort, destination)
			return c.Set()
		}
		began, answered = q.And(began, ports(g.RemotePort, g.LocalPort)), q.And(answered, ports(g.LocalPort, g.RemotePort))
	}
	set := q.LiesIn(q.Dst, g.Local)
	if g.Proto != 0 {
		set = q.And(set, q.Number(q.FlowProto, uint64(g.Proto)))
	}
	return q.And(set, began), q.And(set, answered)
}

// Injected are packets of strangers that the gateway would encrypt (case 6b).
func (q *Packets) Injected() space.Set {
	stranger := q.Or(q.Bit(q.Misrouted), q.fromNowhere())
	may := q.Minus(q.And(q.inClear(), stranger), q.Or(q.inAny(q.Asymmetric), q.neverJudged(q.received, q.Bit(q.DstLocal))))
	return q.And(may, q.outwards(q.received))
}

// outwards are packets that an outbound guard decides by their ends.
func (q *Packets) outwards(e ends) space.Set {
	fits := func(g *firewall.GuardFacts) space.Set {
		if !g.Outbound() {
			return space.None
		}
		return q.goesIn(g.Pair(), e)
	}
	return q.deciding(exception(fits), fits)
}

// fromNowhere are packets in by an uplink, of a local selector's source that does not
// live behind this gateway.
func (q *Packets) fromNowhere() space.Set {
	return q.And(q.inAny(q.Uplinks), q.Minus(q.LiesInAny(q.Src, q.PartlyBehind), q.LiesInAny(q.Src, q.Behind)))
}

// InjectedAfterDNAT is case 6b for packets that DNAT leads into a tunnel.
func (q *Packets) InjectedAfterDNAT() space.Set {
	if q.Way != firewall.Through {
		return space.None
	}
	may := q.Minus(q.And(q.inClear(), q.And(q.Encrypted(), q.Minus(q.Bit(q.DNAT), q.Bit(q.Reply)))), q.Or(q.fromDevice(), q.inAny(q.Asymmetric)))
	// The most specific home of a source decides; of one prefix any device will do.
	elsewhere, decided := space.None, space.None
	for i := 0; i < len(q.Homes); {
		p := q.Homes[i].Prefix
		var devices []string
		for ; i < len(q.Homes) && q.Homes[i].Prefix == p; i++ {
			devices = append(devices, q.Homes[i].Device)
		}
		lives := q.Minus(q.LiesIn(q.Src, p), decided)
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
func (q *Packets) outInClear() space.Set {
	if q.Way == firewall.ToHost {
		return space.None
	}
	stays := space.None
	for _, n := range q.Inside {
		if xfrm.FamilyOf(n.Prefix.Addr()) == q.Family {
			stays = q.Or(stays, q.And(q.GoesOutBy(n.Device), q.LiesIn(q.Src, n.Prefix)))
		}
	}
	return q.Or(stays, q.judgedNowhere()).Not()
}

// judgedNowhere are packets that leave and that no guard judges.
func (q *Packets) judgedNowhere() space.Set {
	if q.Way == firewall.ToHost {
		return space.None
	}
	own := q.Bit(q.SrcLocal)
	return q.Union(q.intoDevice(), q.outAny(q.VRFs), q.neverJudged(q.routed, own), q.And(own, q.serves(q.Src, q.SPort, q.RoutedDPort)))
}

func (q *Packets) outbound(g *firewall.GuardFacts) space.Set {
	if !g.Outbound() {
		return space.None
	}
	return q.And(q.goesIn(g.Pair(), q.routed), q.fitting(g))
}

// leakOf are a guard's packets that must not leave in clear. In case 8d the local end
// says nothing.
func (q *Packets) leakOf(g *firewall.GuardFacts) space.Set { return q.leaving(g, g.ByDestination) }
func (q *Packets) leaving(g *firewall.GuardFacts, byDestination bool) space.Set {
	pair := g.Pair()
	if byDestination {
		pair.Local, pair.LocalPort = netip.PrefixFrom(pair.Local.Addr(), 0).Masked(), localAny(pair)
	}
	return q.Minus(q.goesIn(pair, q.routed), q.exemptAt(g, q.GoesOutBy, q.RoutedDst))
}

// localAny is a pair's local port where the local end says nothing. For ICMP it is the
// type, which is no part of an end.
func localAny(p xfrm.Pair) xfrm.PortMatch {
	if p.Proto.IsICMP() {
		return p.LocalPort
	}
	return xfrm.PortMatch{}
}

// Leaks are packets that leave in clear although a guard names them (cases 8, 8d).
func (q *Packets) Leaks() space.Set {
	return q.And(q.Minus(q.outInClear(), q.Encrypted()), q.deciding(exception(q.outbound), q.leakOf))
}

// RefusedLeaks are the leaks that are rejected, so that their sender is told: forwarded
// ones, and this host's own unless the kernel holds them.
func (q *Packets) RefusedLeaks() space.Set {
	switch q.Way {
	case firewall.ToHost:
		return space.None
	case firewall.Through:
		return q.Leaks()
	}
	return q.And(q.Minus(q.outInClear(), q.Encrypted()), q.deciding(
		func(g *firewall.GuardFacts) space.Set {
			if !g.Exception && !g.Held {
				return space.None
			}
			return q.outbound(g)
		},
		func(g *firewall.GuardFacts) space.Set {
			if g.Held {
				return space.None
			}
			return q.leakOf(g)
		}))
}

// LeaksByNAT are packets of flows that were NATed before the tunnel came up (case 8b).
func (q *Packets) LeaksByNAT() space.Set {
	snat, dnat := q.Minus(q.Bit(q.SNAT), q.Bit(q.Reply)), q.And(q.Bit(q.DNAT), q.Bit(q.Reply))
	return q.And(q.outInClear(), q.deciding(exception(q.outbound), func(g *firewall.GuardFacts) space.Set {
		if g.Local.Bits() == 0 {
			return space.None
		}
		rewritten := q.Or(q.Minus(snat, q.LiesInAny(q.ReplyDst, g.Locals)), q.Minus(dnat, q.LiesInAny(q.OrigDst, g.Locals)))
		return q.And(q.Minus(q.outbound(g), q.exemptAt(g, q.GoesOutBy, q.RoutedDst)), rewritten)
	}))
}

// LeakedErrors are ICMP errors to a remote selector in clear that quote a packet of the
// pair, or may (case 8c).
func (q *Packets) LeakedErrors() space.Set {
	var kinds []space.Set
	for _, kind := range []uint64{3, 11, 12} {
		kinds = append(kinds, q.Number(q.ICMPType, kind))
	}
	errors := q.Union(kinds...)
	if q.Family == xfrm.IPv6 {
		errors = q.Range(q.ICMPType, 1, 4)
	}
	may := q.And(q.Minus(q.outInClear(), q.Encrypted()), q.And(q.isICMP, errors))
	return q.And(may, q.deciding(
		exception(func(g *firewall.GuardFacts) space.Set {
			if !g.Outbound() {
				return space.None
			}
			return q.And(q.fitting(g), q.And(q.LiesIn(q.Src, g.Local), q.LiesIn(q.RoutedDst, g.Remote)))
		}),
		func(g *firewall.GuardFacts) space.Set {
			about := func(f, other space.Classed) space.Set {
				set := q.LiesIn(f, g.Local)
				if g.Local.Overlaps(g.Remote) {
					set = q.And(set, q.LiesIn(other, g.Remote))
				}
				return set
			}
			flows := q.Union(q.Bit(q.Related).Not(), about(q.OrigDst, q.OrigSrc), about(q.OrigSrc, q.OrigDst), q.LiesIn(q.ReplySrc, g.Local))
			return q.Minus(q.And(q.LiesIn(q.RoutedDst, g.Remote), flows), q.exemptAt(g, q.GoesOutBy, q.RoutedDst))
		}))
}
