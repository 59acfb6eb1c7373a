package firewall

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// quoted builds the part of case 6 that no source tells: an ICMP error in clear
// about a tunnel's flow. Its source may be anybody's, as it claims to be some
// router's, but inside the tunnel there is no router who could send it in
// clear. conntrack ties it to the flow all the same, so that the usual rule for
// what is RELATED lets it in: it would lower the flow's path MTU or end it.
//
// conntrack drops an error that is not for the sender of what it quotes, and
// before DNAT that is an address of the tunnel's local selector.
func (b *builder) quoted() {
	began, replied := chainQuoted+"-T", chainQuoted+"-R"
	b.chain(Mangle, chainQuoted, append(b.ownErrors(),
		Rule{Target: Target{Verb: Jump, Chain: began}, Purpose: PurposeDispatch},
		Rule{Target: Target{Verb: Goto, Chain: replied}, Purpose: PurposeDispatch},
	)...)
	b.grow(Mangle, began, byOrigSrc|rare, true, b.quotedEntries(inQuotedBegan))
	b.grow(Mangle, replied, byReplSrc|rare, true, b.quotedEntries(inQuotedReplied))
}

// ownErrors spares errors about this host's own IKE and ESP, which a selector
// that covers the peer would claim: they tell the path MTU of the tunnel itself.
func (b *builder) ownErrors() []Rule {
	about := []CtMatch{{Proto: xfrm.ESP}, {Proto: xfrm.AH}}
	ports := []uint16{ike, natT}
	for _, at := range b.encapPorts() {
		ports = append(ports, at.Port())
	}
	for _, port := range ports {
		about = append(about, CtMatch{Proto: xfrm.UDP, OrigSPorts: Port(port)}, CtMatch{Proto: xfrm.UDP, OrigDPorts: Port(port)})
	}
	var rules []Rule
	for _, ct := range about {
		rules = append(rules, Rule{DstType: Local, Ct: ct, Target: Target{Verb: Return}, Purpose: PurposeExempt})
	}
	return rules
}

// quotedEntries are the guards' rules for flows that the far end began, or that
// it answers, by its address in the flow: many tunnels can have the local
// selector in common.
func (b *builder) quotedEntries(place guardPlace) stand {
	near := inNearBegan
	if place == inQuotedReplied {
		near = inNearReplied
	}
	quoted := func(i int) []Rule { return b.quotedRules(b.all[i], place == inQuotedReplied) }
	nearby := func(i int) []Rule { return pierceNear(b.all[i], near == inNearReplied) }
	return stand{touched: slices.Concat(b.touched, b.near), in: func(list []entry, p netip.Prefix) []entry {
		add := func(e entry) {
			if e.count() > 0 && e.key.Overlaps(p) {
				list = append(list, e)
			}
		}
		places := b.guardsIn(p)
		if p.Bits() > 0 {
			for _, i := range b.pierces {
				if b.all[i].Local.Overlaps(p) {
					places = append(places, i)
				}
			}
			slices.Sort(places)
			places = slices.Compact(places)
		}
		for _, i := range places {
			g := &b.all[i]
			if !g.inbound() {
				continue
			}
			add(keptEntry(g.Remote, b.kept(i, place), i, quoted))
			if g.Pierce {
				add(keptEntry(g.Local, b.kept(i, near), i, nearby))
			}
		}
		return list
	}}
}

func (b *builder) quotedRules(g Guard, replied bool) []Rule {
	about, ok := flowsOf(g)
	if !ok {
		return nil
	}
	final := Target{Verb: Return}
	purpose := PurposePierce
	if !g.Pierce {
		final, purpose = drop(PurposeSpoof), PurposeSpoofGuard
	}
	ct := about[0]
	if replied {
		ct = about[1]
	}
	rule := Rule{Dst: g.Local, Ct: ct, Target: final, Purpose: purpose, Tunnel: g.Tunnel}
	if spots := b.lanSpots(g); len(spots) > 0 && !g.Pierce {
		return b.quotedBesideLAN(g, spots, rule, replied)
	}
	return []Rule{rule}
}

// pierceNear has an exception hold in the other tree too. What it lets go in the
// one is met again there, where a later guard whose remote selector covers the
// near end would take that for a remote one.
func pierceNear(g Guard, replied bool) []Rule {
	about, ok := flowsOf(g)
	if !ok {
		return nil
	}
	ct := about[1]
	ct.OrigSrc = g.Local
	if replied {
		ct = about[0]
		ct.ReplSrc = g.Local
	}
	return pierced(Rule{Dst: g.Local, Ct: ct, Tunnel: g.Tunnel})
}

// flowsOf matches the flows of a guard's pair: those that the far end began, and
// those that it answers. Where the pair has a type of ICMP no rule can tell its
// flows from others between the same hosts, and so none does.
func flowsOf(g Guard) ([]CtMatch, bool) {
	local, remote := portsOf(g.LocalPort), portsOf(g.RemotePort)
	began, replied := CtMatch{Proto: g.Proto, OrigSrc: g.Remote}, CtMatch{Proto: g.Proto, ReplSrc: g.Remote}
	if local != (Ports{}) || remote != (Ports{}) {
		if g.Proto == xfrm.ICMP || g.Proto == xfrm.ICMPv6 {
			return nil, false
		}
		began.OrigSPorts, began.OrigDPorts = remote, local
		replied.OrigSPorts, replied.OrigDPorts = local, remote
	}
	return []CtMatch{began, replied}, true
}

// quotedBesideLAN spares the flows with connected networks below a wider remote
// selector, as guarded does for the packets themselves: whichever end is there.
// What it drops, each tree's chain does for its own end only: a chain that one
// tree leads to does not decide ahead of an exception that stands in the other.
func (b *builder) quotedBesideLAN(g Guard, spots []lanSpot, final Rule, replied bool) []Rule {
	letter, about := "Q", func(p netip.Prefix) CtMatch { return CtMatch{OrigSrc: p} }
	if replied {
		letter, about = "R", func(p netip.Prefix) CtMatch { return CtMatch{ReplSrc: p} }
	}
	var rules []Rule
	if g.Peer.IsValid() && g.Remote.Contains(g.Peer) {
		rules = append(rules, Rule{Ct: about(single(g.Peer)), Target: drop(PurposeSpoof), Purpose: PurposeSpoofGuard, Tunnel: g.Tunnel})
	}
	for _, s := range spots {
		network := s.network
		if network.Bits() < g.Remote.Bits() {
			network = g.Remote
		}
		for _, ct := range []CtMatch{{OrigSrc: network}, {ReplSrc: network}} {
			rules = append(rules, Rule{In: s.device, Ct: ct, Target: Target{Verb: Return}, Purpose: PurposeLAN, Tunnel: g.Tunnel})
		}
	}
	name := lanChain(letter, g)
	if key := string(Mangle) + name; !b.made[key] {
		b.made[key] = true
		b.chain(Mangle, name, append(rules, final)...)
	}
	return []Rule{{Dst: g.Local, Target: Target{Verb: Jump, Chain: name}, Purpose: PurposeDispatch, Tunnel: g.Tunnel}}
}
