package prove

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// judged is packets with one verdict.
type judged struct {
	firewall.Verdict
	set Set
}

// judge divides packets by firewall.Judge's verdict, in its order. Cases 8 and 8d are
// one here, and the case of an accepted packet is NoCase.
func (q *spec) judge(from Set) []judged {
	rest := from
	var list []judged
	add := func(a firewall.Action, c firewall.Case, set Set) {
		set = q.And(rest, set)
		rest = q.Minus(rest, set)
		list = append(list, judged{firewall.Verdict{Action: a, Case: c}, set})
	}
	inbound := truthOf(q.way != firewall.FromHost)
	add(firewall.Leave, firewall.Case9, q.onHost)
	add(firewall.Discard, firewall.Case7, q.And(inbound, q.strayCarriers()))
	if q.Enforce {
		add(firewall.Discard, firewall.Case3, q.evidenceOf(firewall.Case3))
	}
	unverified := q.Minus(q.decrypted, q.verified)
	add(firewall.Discard, firewall.Case7, q.And(unverified, q.Or(q.carriers(), q.known())))
	if q.way != firewall.FromHost {
		add(firewall.Discard, firewall.Case7b, q.And(unverified, q.ownedByAnother()))
		add(firewall.Discard, firewall.Case6, q.spoofedErrors())
		add(firewall.Discard, firewall.Case6, q.spoofedAsReceived())
		add(firewall.Discard, firewall.Case6b, q.injected())
		add(firewall.Discard, firewall.Case6b, q.injectedAfterDNAT())
		add(firewall.Discard, firewall.Case6, q.spoofedAsRouted())
	}
	add(firewall.Admit, firewall.NoCase, q.ipsecOfHost())
	add(firewall.Refuse, firewall.Case8, q.refusedLeaks())
	add(firewall.Discard, firewall.NoCase, q.restrictedIn())
	add(firewall.Refuse, firewall.NoCase, q.restrictedOut())
	services := q.services()
	add(firewall.Discard, firewall.NoCase, q.Minus(q.underLockdown(), services))
	add(firewall.Discard, firewall.Case8c, q.leakedErrors())
	add(firewall.Discard, firewall.Case8, q.leaks())
	add(firewall.Discard, firewall.Case8b, q.leaksByNAT())
	add(firewall.Admit, firewall.NoCase, q.letIn())
	add(firewall.Leave, firewall.Case8e, q.strangers())
	add(firewall.Admit, firewall.NoCase, q.letOut())
	add(firewall.Admit, firewall.NoCase, services)
	add(firewall.Leave, firewall.NoCase, All)
	return list
}

// strayCarriers are verified packets in clear that carry an overlay device's and did
// not come by the way of its carriers.
func (q *spec) strayCarriers() Set {
	result, rest := None, q.And(q.decrypted.Not(), q.Bit(q.Space.verified))
	for i := range q.Overlays {
		o := &q.Overlays[i]
		is := q.And(rest, q.carries(o))
		rest = q.Minus(rest, is)
		result = q.Or(result, q.Minus(is, q.inAny(o.Below)))
	}
	return q.Or(result, q.And(rest, q.openCarriers()))
}

// known are packets out of a known reqid.
func (q *spec) known() Set {
	var sets []Set
	for _, k := range q.Known {
		sets = append(sets, q.number(q.path.reqid, uint64(k.Reqid)))
	}
	return q.And(q.decrypted, q.Union(sets...))
}

// possible are the packets that a kernel lets be: none on the loopback interface, none
// from outside with a source of this host (fib_validate_source), and none of this host's
// with another (but for transparent proxies).
func (q *spec) possible() Set {
	return q.And(q.onHost.Not(), negated(q.Bit(q.srcLocal), q.way != firewall.FromHost))
}

// betweenRemotes are ICMP errors about flows with both ends in guarded remote selectors.
// The rules ask for one end and then for the other. Where an exception or a connected
// network spares one of them, the other has the error dropped.
func (q *spec) betweenRemotes() Set {
	var began, answered []Set
	for _, g := range q.guards {
		if !g.Exception {
			began = append(began, q.within(q.origSrc, g.Remote))
			answered = append(answered, q.within(q.replySrc, g.Remote))
		}
	}
	return q.And(q.And(q.isICMP, q.Bit(q.related)), q.And(q.Union(began...), q.Union(answered...)))
}

// plain are the packets that iptables rules tell apart. Packets of a tunnel that must
// carry none of our bits are judged anew in filter, by their addresses after DNAT. The
// outer packet of an SA that must not see our bits loses them in INPUT, also where it came
// out of another tunnel.
func (q *spec) plain() Set {
	var sets []Set
	for _, c := range q.claims {
		if c.PolicyOnly {
			sets = append(sets, q.cameOutOf(c.In))
		}
	}
	return q.Minus(q.possible(), q.Union(sets...))
}

// toldByTable are packets on which a table of nftables and Judge differ, because the
// table sees more, or because the parts of the packet contradict each other. Those of
// flows with NAT are not among them.
func (q *spec) toldByTable() Set {
	other := xfrm.Proto(xfrm.ICMPv6)
	if q.Family == xfrm.IPv6 {
		other = xfrm.ICMP
	}
	sets := []Set{
		// conntrack calls no other message of ICMP related, and no packet has the other
		// family's.
		q.Minus(q.And(q.isICMP, q.Bit(q.related)), q.quoting()), q.number(q.proto, uint64(other)),
		// Source quench and redirects quote packets, too, but only the table holds them.
		q.And(q.quoting(), q.Or(q.number(q.icmpType, 4), q.number(q.icmpType, 5))),
		q.beyondSelectors(), q.betweenRemotes(), q.incoherent(), q.otherErrors(),
	}
	if q.Family == xfrm.IPv6 {
		sets[2] = None
	}
	for _, at := range q.EncapPorts { // an address of this host
		sets = append(sets, q.Minus(q.single(q.src, at.Addr()), q.Bit(q.srcLocal)), q.Minus(q.single(q.dst, at.Addr()), q.Bit(q.dstLocal)))
	}
	for _, g := range q.guards { // an error about no flow, to a peer in a connected network
		if len(g.Exempt) > 0 {
			sets = append(sets, q.And(q.Minus(q.quoting(), q.Bit(q.related)), q.single(q.routedDst, g.Peer)))
		}
		if g.Local.Overlaps(g.Remote) { // an error for the near end, which the remote selector has too
			sets = append(sets, q.And(q.quoting(), q.within(q.routedDst, g.Local)))
		}
	}
	return q.Union(sets...)
}

// beyondSelectors are packets into an SA of a tunnel that do not lie in its selectors,
// which the kernel finds no policy for, and those out of an SA that has a tunnel's reqid
// and is not the tunnel's.
func (q *spec) beyondSelectors() Set {
	var into, inside, outOf, own []Set
	for i := range q.Claims {
		c := &q.Claims[i]
		into = append(into, q.number(q.ahead.reqid, uint64(c.Out.Reqid)))
		outOf = append(outOf, q.number(q.path.reqid, uint64(c.In.Reqid)))
		own = append(own, q.cameOutOf(c.In))
		if c.Pair.Family() == q.Family {
			inside = append(inside, q.And(q.goesInto(c.Out), q.goesIn(c.Pair, q.routed)))
		}
	}
	for i := range q.Restrictions { // of a tunnel that has no claim within its cap
		for _, d := range q.Restrictions[i].Destinations {
			into = append(into, q.number(q.ahead.reqid, uint64(d.SA.Reqid)))
			inside = append(inside, q.And(q.goesInto(d.SA), q.within(q.routedDst, d.Prefix)))
		}
	}
	return q.Or(q.And(q.encrypted(), q.Minus(q.Union(into...), q.Union(inside...))),
		q.And(q.decrypted, q.Minus(q.Union(outOf...), q.Union(own...))))
}

// incoherent are ICMP errors about flows without NAT of which the ends contradict each
// other: conntrack knows the answering end as the one that the flow went to, and has the
// error go to one of both.
func (q *spec) incoherent() Set {
	var bad []Set
	seen := make(map[netip.Prefix]bool)
	ask := func(in func(f field) Set) {
		went, answers, began := in(q.origDst), in(q.replySrc), in(q.origSrc)
		bad = append(bad, q.Minus(went, answers), q.Minus(answers, went), q.Minus(in(q.dst), q.Or(answers, began)))
	}
	for _, g := range q.guards {
		for _, p := range []netip.Prefix{g.Local, g.Remote} {
			if !seen[p] {
				seen[p] = true
				ask(func(f field) Set { return q.within(f, p) })
			}
		}
		if g.Local.Overlaps(g.Remote) {
			ask(func(f field) Set { return q.Minus(q.within(f, g.Remote), q.within(f, g.Local)) })
		}
	}
	return q.And(q.And(q.isICMP, q.Bit(q.related)), q.Union(bad...))
}

// otherErrors are ICMP errors out of a tunnel of one protocol, out of one of several
// with its reqid, or out of one with selectors that overlap: the table asks for the
// protocol of the flow, does not ask for the peer, and takes the near end for none of the
// remote ones.
func (q *spec) otherErrors() Set {
	var sets []Set
	by := make(map[uint32]firewall.SAMatch)
	for i := range q.Claims {
		c := &q.Claims[i]
		if other, ok := by[c.In.Reqid]; ok && other != c.In || c.Pair.Proto != 0 || c.Pair.Local.Overlaps(c.Pair.Remote) {
			sets = append(sets, q.number(q.path.reqid, uint64(c.In.Reqid)))
		}
		by[c.In.Reqid] = c.In
	}
	return q.And(q.And(q.isICMP, q.Bit(q.related)), q.And(q.decrypted, q.Union(sets...)))
}

// contradictory are packets of flows with NAT with a source that is not that of the flow in
// their direction, as far as local selectors tell.
func (q *spec) contradictory() Set {
	var bad []Set
	seen := make(map[netip.Prefix]bool)
	for _, g := range q.guards {
		if p := g.Local; !seen[p] {
			seen[p] = true
			src, began, answers := q.within(q.src, p), q.within(q.origSrc, p), q.within(q.replySrc, p)
			original, reply := q.Or(q.Minus(src, began), q.Minus(began, src)), q.Or(q.Minus(src, answers), q.Minus(answers, src))
			bad = append(bad, q.Or(q.Minus(original, q.Bit(q.reply)), q.And(reply, q.Bit(q.reply))))
		}
	}
	return q.Minus(q.And(q.Or(q.Bit(q.snat), q.Bit(q.dnat)), q.Union(bad...)), q.Bit(q.related))
}
