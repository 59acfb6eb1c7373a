package firewall

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// quoted lays out the part of case 6 that no source tells: an ICMP error in clear
// about a tunnel's flow. Its source may be any address, because it claims to be some
// router's, but no router inside the tunnel could send it in clear. conntrack ties it
// to the flow all the same, so the usual rule for RELATED lets it in: it would lower
// the flow's path MTU or end it.
//
// conntrack drops an error that is not for the sender of the quoted packet, and
// before DNAT that is an address of the tunnel's local selector.
func (l *layout) quoted() {
	began, replied := chainQuoted+"-T", chainQuoted+"-R"
	l.chain(Mangle, chainQuoted, append(l.ownErrors(),
		Rule{Target: Target{Verb: Jump, Chain: began}, Purpose: PurposeDispatch},
		Rule{Target: Target{Verb: Goto, Chain: replied}, Purpose: PurposeDispatch},
	)...)
	l.tree(TreeSpec{Table: Mangle, Root: began, By: ByOriginSource, Rare: true, Merge: isGuard}, l.quotedEntries(false))
	l.tree(TreeSpec{Table: Mangle, Root: replied, By: ByReplySource, Rare: true, Merge: isGuard}, l.quotedEntries(true))
}

// ownErrors spares errors about this host's own IKE and ESP, which a selector that
// covers the peer would claim: they tell the path MTU of the tunnel itself.
func (l *layout) ownErrors() []Rule {
	about := []CtMatch{{Proto: xfrm.ESP}, {Proto: xfrm.AH}}
	ports := []uint16{IKE, NATT}
	for _, at := range l.encapPorts() {
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

// quotedEntries are the guards' rules for flows that the remote end began, or that it
// answers, by its address in the flow: many tunnels can have the local selector in
// common.
//
// An exception holds in the other tree too. The packets that it spares in one tree
// are met again in the other, where a later guard whose remote selector covers the
// near end would take that for a remote one.
func (l *layout) quotedEntries(replied bool) []TreeEntry {
	var entries []TreeEntry
	for _, g := range l.guards {
		began, answered, ok := flowsOf(g)
		if !g.inbound() || !ok {
			continue
		}
		ct, other := began, answered
		if replied {
			ct, other = answered, began
		}
		if !g.Pierce {
			entries = append(entries, l.quotedBesideLAN(g, quotedRule(g, ct), replied))
			continue
		}
		entries = append(entries, entry(g.Remote, exceptionRule(quotedRule(g, ct))...))
		if replied {
			other.ReplSrc = g.Local
		} else {
			other.OrigSrc = g.Local
		}
		entries = append(entries, entry(g.Local, exceptionRule(quotedRule(g, other))...))
	}
	return entries
}

// quotedRule drops errors about a flow of the guard's pair.
func quotedRule(g *GuardFacts, ct CtMatch) Rule {
	return Rule{Dst: g.Local, Ct: ct, Target: drop(PurposeSpoof), Purpose: PurposeSpoofGuard, Tunnel: g.Tunnel, Case: Case6}
}

// flowsOf matches the flows of a guard's pair: those that the remote end began, and
// those that it answers. It reports false for a pair with an ICMP type, because no
// rule tells its flows from others between the same hosts.
func flowsOf(g *GuardFacts) (began, answered CtMatch, ok bool) {
	local, remote := portsOf(g.LocalPort), portsOf(g.RemotePort)
	began, answered = CtMatch{Proto: g.Proto, OrigSrc: g.Remote}, CtMatch{Proto: g.Proto, ReplSrc: g.Remote}
	if local != (Ports{}) || remote != (Ports{}) {
		if g.Proto == xfrm.ICMP || g.Proto == xfrm.ICMPv6 {
			return CtMatch{}, CtMatch{}, false
		}
		began.OrigSPorts, began.OrigDPorts = remote, local
		answered.OrigSPorts, answered.OrigDPorts = local, remote
	}
	return began, answered, true
}

// quotedBesideLAN spares the flows with connected networks below a wider remote
// selector, whichever end is there. The chain of one tree drops errors about its own
// end only: it must not decide ahead of an exception that stands in the other tree.
func (l *layout) quotedBesideLAN(g *GuardFacts, final Rule, replied bool) TreeEntry {
	if len(g.Exempt) == 0 {
		return entry(g.Remote, final)
	}
	letter, about := "Q", func(p netip.Prefix) CtMatch { return CtMatch{OrigSrc: p} }
	if replied {
		letter, about = "R", func(p netip.Prefix) CtMatch { return CtMatch{ReplSrc: p} }
	}
	var rules []Rule
	if g.Peer.IsValid() && g.Remote.Contains(g.Peer) {
		rules = append(rules, Rule{Ct: about(single(g.Peer)), Target: drop(PurposeSpoof), Purpose: PurposeSpoofGuard, Tunnel: g.Tunnel, Case: Case6})
	}
	for _, n := range g.Exempt {
		network := narrowerOf(n.Prefix, g.Remote)
		for _, ct := range []CtMatch{{OrigSrc: network}, {ReplSrc: network}} {
			rules = append(rules, Rule{In: n.Device, Ct: ct, Target: Target{Verb: Return}, Purpose: PurposeLAN, Tunnel: g.Tunnel})
		}
	}
	name := lanChain(letter, g)
	l.chain(Mangle, name, append(rules, final)...)
	return entry(g.Remote, Rule{Dst: g.Local, Target: Target{Verb: Jump, Chain: name}, Purpose: PurposeDispatch, Tunnel: g.Tunnel})
}
