// Package judge is firewall.Judge over sets: it tells which packets of a space meet each
// of Judge's predicates and get each of its verdicts. It knows the facts, and no rule.
package judge

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Judged is packets with one verdict.
type Judged struct {
	firewall.Verdict
	Set space.Set
}

// Verdicts divides packets by firewall.Judge's verdict, in its order. Cases 8 and 8d are
// one here, and the case of an accepted packet is NoCase.
func (q *Packets) Verdicts(from space.Set) []Judged {
	rest := from
	var list []Judged
	add := func(a firewall.Action, c firewall.Case, set space.Set) {
		set = q.And(rest, set)
		rest = q.Minus(rest, set)
		list = append(list, Judged{firewall.Verdict{Action: a, Case: c}, set})
	}
	inbound := space.TruthOf(q.Way != firewall.FromHost)
	add(firewall.Leave, firewall.Case9, q.onHost)
	add(firewall.Discard, firewall.Case7, q.And(inbound, q.StrayCarriers()))
	if q.Enforce {
		add(firewall.Discard, firewall.Case3, q.EvidenceOf(firewall.Case3))
	}
	unverified := q.Minus(q.Decrypted, q.Verified)
	add(firewall.Discard, firewall.Case7, q.And(unverified, q.Or(q.Carriers(), q.OfKnownReqid())))
	if q.Way != firewall.FromHost {
		add(firewall.Discard, firewall.Case7b, q.And(unverified, q.OwnedByAnother()))
		add(firewall.Discard, firewall.Case6, q.SpoofedErrors())
		add(firewall.Discard, firewall.Case6, q.SpoofedAsReceived())
		add(firewall.Discard, firewall.Case6b, q.Injected())
		add(firewall.Discard, firewall.Case6b, q.InjectedAfterDNAT())
		add(firewall.Discard, firewall.Case6, q.SpoofedAsRouted())
	}
	add(firewall.Admit, firewall.NoCase, q.IPsecOfHost())
	add(firewall.Refuse, firewall.Case8, q.RefusedLeaks())
	add(firewall.Discard, firewall.NoCase, q.RestrictedIn())
	add(firewall.Refuse, firewall.NoCase, q.RestrictedOut())
	services := q.Services()
	add(firewall.Discard, firewall.NoCase, q.Minus(q.UnderLockdown(), services))
	add(firewall.Discard, firewall.Case8c, q.LeakedErrors())
	add(firewall.Discard, firewall.Case8, q.Leaks())
	add(firewall.Discard, firewall.Case8b, q.LeaksByNAT())
	add(firewall.Admit, firewall.NoCase, q.LetIn())
	add(firewall.Leave, firewall.Case8e, q.NewFromStrangers())
	add(firewall.Admit, firewall.NoCase, q.LetOut())
	add(firewall.Admit, firewall.NoCase, services)
	add(firewall.Leave, firewall.NoCase, space.All)
	return list
}

// StrayCarriers are verified packets in clear that carry an overlay device's and did
// not come by the way of its carriers.
func (q *Packets) StrayCarriers() space.Set {
	result, rest := space.None, q.And(q.Decrypted.Not(), q.Bit(q.Space.Verified))
	for i := range q.Overlays {
		o := &q.Overlays[i]
		is := q.And(rest, q.carries(o))
		rest = q.Minus(rest, is)
		result = q.Or(result, q.Minus(is, q.inAny(o.Below)))
	}
	return q.Or(result, q.And(rest, q.openCarriers()))
}

// OfKnownReqid are packets out of a known reqid.
func (q *Packets) OfKnownReqid() space.Set {
	var sets []space.Set
	for _, k := range q.Known {
		sets = append(sets, q.ReqidIs(&q.Path, k.Reqid))
	}
	return q.And(q.Decrypted, q.Union(sets...))
}

// Possible are the packets that a kernel lets be: none on the loopback interface, none
// from outside with a source of this host (fib_validate_source), and none of this host's
// with another (but for transparent proxies).
func (q *Packets) Possible() space.Set {
	return q.And(q.onHost.Not(), space.Negated(q.Bit(q.SrcLocal), q.Way != firewall.FromHost))
}

// BetweenRemotes are ICMP errors about flows with both ends in guarded remote selectors.
// The rules ask for one end and then for the other. Where an exception or a connected
// network spares one of them, the other has the error dropped.
func (q *Packets) BetweenRemotes() space.Set {
	var began, answered []space.Set
	for _, g := range q.guards {
		if !g.Exception {
			began = append(began, q.LiesIn(q.OrigSrc, g.Remote))
			answered = append(answered, q.LiesIn(q.ReplySrc, g.Remote))
		}
	}
	return q.And(q.And(q.isICMP, q.Bit(q.Related)), q.And(q.Union(began...), q.Union(answered...)))
}

// Plain are the packets that iptables rules tell apart. Packets of a tunnel that must
// carry none of our bits are judged anew in filter, by their addresses after DNAT. The
// outer packet of an SA that must not see our bits loses them in INPUT, also where it came
// out of another tunnel.
func (q *Packets) Plain() space.Set {
	var sets []space.Set
	for _, c := range q.claims {
		if c.PolicyOnly {
			sets = append(sets, q.cameOutOf(c.In))
		}
	}
	sets = append(sets, q.And(q.Decrypted, q.BareOuter()))
	return q.Minus(q.Possible(), q.Union(sets...))
}

// BareInner are the packets out of the tunnels that must carry none of our bits, in
// their selectors both before DNAT and behind it.
func (q *Packets) BareInner() space.Set {
	return q.inBothSelectors(func(c *firewall.Claim) bool { return c.PolicyOnly })
}

// InSelectors are the packets out of the other tunnels, in their selectors both before
// DNAT and behind it.
func (q *Packets) InSelectors() space.Set {
	return q.And(q.Verified, q.inBothSelectors(func(c *firewall.Claim) bool { return !c.PolicyOnly }))
}

func (q *Packets) inBothSelectors(of func(*firewall.Claim) bool) space.Set {
	var sets []space.Set
	for _, c := range q.claims {
		if of(c) {
			sets = append(sets, q.And(q.cameOutOf(c.In), q.And(q.comesFrom(c.Pair, q.received), q.comesFrom(c.Pair, q.routed))))
		}
	}
	return q.And(q.Decrypted, q.Union(sets...))
}

// FromOverlays are the packets in by a device that is accepted by the mark of its carriers.
func (q *Packets) FromOverlays() space.Set {
	var sets []space.Set
	for i := range q.Overlays {
		sets = append(sets, q.inAny(q.Overlays[i].Devices))
	}
	return q.Union(sets...)
}

// OnLoopback are the packets that never leave this host.
func (q *Packets) OnLoopback() space.Set { return q.onHost }

// Outer are the outer packets of IPsec for this host.
func (q *Packets) Outer() space.Set {
	if q.Way != firewall.ToHost {
		return space.None
	}
	udp := q.Or(q.Number(q.RoutedDPort, firewall.NATT), q.encapPorts(q.RoutedDst, q.RoutedDPort))
	return q.Union(q.Number(q.Proto, uint64(xfrm.ESP)), q.Number(q.Proto, uint64(xfrm.AH)), q.And(q.Number(q.Proto, uint64(xfrm.UDP)), udp))
}

// BareOuter are the outer packets of SAs that must see none of our bits.
func (q *Packets) BareOuter() space.Set {
	if q.Way != firewall.ToHost {
		return space.None
	}
	var sets []space.Set
	for _, o := range q.Untagged {
		set := q.And(q.And(q.single(q.Src, o.Peer), q.single(q.RoutedDst, o.Local)), q.Number(q.Proto, uint64(o.Proto)))
		if o.Port != 0 {
			set = q.And(set, q.Number(q.RoutedDPort, uint64(o.Port)))
		}
		sets = append(sets, set)
	}
	return q.Union(sets...)
}

// ToldByTable are packets on which a table of nftables and Judge differ, because the
// table sees more, or because the parts of the packet contradict each other. Those of
// flows with NAT are not among them.
func (q *Packets) ToldByTable() space.Set {
	other := xfrm.Proto(xfrm.ICMPv6)
	if q.Family == xfrm.IPv6 {
		other = xfrm.ICMP
	}
	sets := []space.Set{
		// conntrack calls no other message of ICMP related, and no packet has the other
		// family's.
		q.Minus(q.And(q.isICMP, q.Bit(q.Related)), q.Quoting()), q.Number(q.Proto, uint64(other)),
		// Source quench and redirects quote packets, too, but only the table holds them.
		q.And(q.Quoting(), q.Or(q.Number(q.ICMPType, 4), q.Number(q.ICMPType, 5))),
		q.beyondSelectors(), q.BetweenRemotes(), q.incoherent(), q.otherErrors(),
	}
	if q.Family == xfrm.IPv6 {
		sets[2] = space.None
	}
	for i := range q.IPComp { // a carrier that DNAT takes to another host
		c := &q.IPComp[i]
		carrier := q.And(q.single(q.Src, c.Remote), q.And(q.single(q.Dst, c.Local), q.Number(q.Proto, uint64(ipInIP(q.Family)))))
		sets = append(sets, q.Minus(carrier, q.single(q.RoutedDst, c.Local)))
	}
	sets = append(sets, q.NotOfHost())
	for _, g := range q.guards { // an error about no flow, to a peer in a connected network
		if len(g.Exempt) > 0 {
			sets = append(sets, q.And(q.Minus(q.Quoting(), q.Bit(q.Related)), q.single(q.RoutedDst, g.Peer)))
		}
		if g.Local.Overlaps(g.Remote) { // an error for the near end, which the remote selector has too
			sets = append(sets, q.And(q.Quoting(), q.LiesIn(q.RoutedDst, g.Local)))
		}
	}
	return q.Union(sets...)
}

// RefusedByRules are the refused leaks but for those that rules leave to a table beside them:
// the destination alone decides, while a policy stands.
func (q *Packets) RefusedByRules() space.Set {
	return q.And(q.RefusedLeaks(), q.deciding(exception(q.outbound), func(g *firewall.GuardFacts) space.Set {
		return q.leaving(g, g.ByDestination && !g.Held)
	}))
}

// NotOfHost are packets with an address of this host, as ports of encapsulation tell, that are
// none of its own.
func (q *Packets) NotOfHost() space.Set {
	var sets []space.Set
	for _, at := range q.EncapPorts {
		sets = append(sets, q.Minus(q.single(q.Src, at.Addr()), q.Bit(q.SrcLocal)), q.Minus(q.single(q.Dst, at.Addr()), q.Bit(q.DstLocal)))
		if q.Way == firewall.Through { // no packet to this host goes there
			sets = append(sets, q.single(q.RoutedDst, at.Addr()))
		}
	}
	return q.Union(sets...)
}

// beyondSelectors are packets into an SA of a tunnel that do not lie in its selectors,
// which the kernel finds no policy for, and those out of an SA that has a tunnel's reqid
// and is not the tunnel's.
// An SA from a tunnel's peer ends at the tunnel's own address.
func (q *Packets) beyondSelectors() space.Set {
	var into, inside, outOf, own, fromPeer, whole []space.Set
	for i := range q.Claims {
		c := &q.Claims[i]
		into = append(into, q.ReqidIs(&q.Ahead, c.Out.Reqid))
		outOf = append(outOf, q.ReqidIs(&q.Path, c.In.Reqid))
		own = append(own, q.cameOutOf(c.In))
		if c.In.Src.IsValid() {
			from := q.And(q.ReqidIs(&q.Path, c.In.Reqid), q.Space.Outer(q.Path.Source, c.In.Src))
			fromPeer, whole = append(fromPeer, from), append(whole, q.And(from, q.Space.Outer(q.Path.Destination, c.In.Dst)))
		}
		if c.Pair.Family() == q.Family {
			inside = append(inside, q.And(q.GoesInto(c.Out), q.goesIn(c.Pair, q.routed)))
		}
	}
	for i := range q.IPComp {
		outOf, own = append(outOf, q.ReqidIs(&q.Path, q.IPComp[i].In.Reqid)), append(own, q.cameOutOf(q.IPComp[i].In))
	}
	for i := range q.Restrictions { // of a tunnel that has no claim within its cap
		for _, d := range q.Restrictions[i].Destinations {
			into = append(into, q.ReqidIs(&q.Ahead, d.SA.Reqid))
			inside = append(inside, q.And(q.GoesInto(d.SA), q.LiesIn(q.RoutedDst, d.Prefix)))
		}
	}
	return q.Or(q.And(q.Encrypted(), q.Minus(q.Union(into...), q.Union(inside...))),
		q.And(q.Decrypted, q.Or(q.Minus(q.Union(outOf...), q.Union(own...)), q.Minus(q.Union(fromPeer...), q.Union(whole...)))))
}

// incoherent are ICMP errors about flows without NAT of which the ends contradict each
// other: conntrack knows the answering end as the one that the flow went to, and has the
// error go to one of both. It rewrites the destination of none.
func (q *Packets) incoherent() space.Set {
	// Each sentence is joined apart, because sets about other addresses have nothing in common.
	var flows, ends, sent []space.Set
	seen := make(map[netip.Prefix]bool)
	ask := func(in func(f space.Classed) space.Set) {
		went, answers, began, to, routed := in(q.OrigDst), in(q.ReplySrc), in(q.OrigSrc), in(q.Dst), in(q.RoutedDst)
		flows = append(flows, q.Minus(went, answers), q.Minus(answers, went))
		ends = append(ends, q.Minus(to, q.Or(answers, began)))
		sent = append(sent, q.Minus(to, routed), q.Minus(routed, to))
	}
	for _, g := range q.guards {
		for _, p := range []netip.Prefix{g.Local, g.Remote} {
			if !seen[p] {
				seen[p] = true
				ask(func(f space.Classed) space.Set { return q.LiesIn(f, p) })
			}
		}
		if g.Local.Overlaps(g.Remote) {
			ask(func(f space.Classed) space.Set { return q.Minus(q.LiesIn(f, g.Remote), q.LiesIn(f, g.Local)) })
		}
	}
	unmapped := q.Minus(q.Union(sent...), q.Or(q.Bit(q.SNAT), q.Bit(q.DNAT)))
	return q.And(q.And(q.isICMP, q.Bit(q.Related)), q.Union(q.Union(flows...), q.Union(ends...), unmapped))
}

// otherErrors are ICMP errors out of a tunnel of one protocol, out of one of several
// with its reqid, or out of one with selectors that overlap: the table asks for the
// protocol of the flow, does not ask for the peer, and takes the near end for none of the
// remote ones.
func (q *Packets) otherErrors() space.Set {
	var sets []space.Set
	by := make(map[uint32]firewall.SAMatch)
	for i := range q.Claims {
		c := &q.Claims[i]
		if other, ok := by[c.In.Reqid]; ok && other != c.In || c.Pair.Proto != 0 || c.Pair.Local.Overlaps(c.Pair.Remote) {
			sets = append(sets, q.ReqidIs(&q.Path, c.In.Reqid))
		}
		by[c.In.Reqid] = c.In
	}
	return q.And(q.And(q.isICMP, q.Bit(q.Related)), q.And(q.Decrypted, q.Union(sets...)))
}

// Contradictory are packets of flows with NAT with a source that is not that of the flow in
// their direction, as far as local selectors tell.
func (q *Packets) Contradictory() space.Set {
	var bad []space.Set
	seen := make(map[netip.Prefix]bool)
	for _, g := range q.guards {
		if p := g.Local; !seen[p] {
			seen[p] = true
			src, began, answers := q.LiesIn(q.Src, p), q.LiesIn(q.OrigSrc, p), q.LiesIn(q.ReplySrc, p)
			original, reply := q.Or(q.Minus(src, began), q.Minus(began, src)), q.Or(q.Minus(src, answers), q.Minus(answers, src))
			bad = append(bad, q.Or(q.Minus(original, q.Bit(q.Reply)), q.And(reply, q.Bit(q.Reply))))
		}
	}
	return q.Minus(q.And(q.Or(q.Bit(q.SNAT), q.Bit(q.DNAT)), q.Union(bad...)), q.Bit(q.Related))
}
