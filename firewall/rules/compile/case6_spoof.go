package compile

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// spoof lays out case 6: an unverified packet from a remote selector to its local
// one. It stands in PREROUTING and again in INPUT and FORWARD, because DNAT, NETMAP and
// REDIRECT lead packets into a local selector and out of it.
func (l *cases) spoof() {
	goTo := func(chain string) rules.Rule {
		return rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: chain}, Purpose: rules.PurposeDispatch}
	}
	spared := append(l.fromDevices(), l.neverJudged(false, l.Within, tree.BySource)...)
	l.Chain(rules.Mangle, layout.ChainSpoof, append(slices.Clip(spared), goTo(layout.ChainSpoof+"-T"))...)
	if !l.partial() {
		l.Chain(rules.Mangle, layout.ChainArriving, append(l.ownTraffic(false), goTo(layout.ChainSpoof))...)
		l.spoofTree(layout.ChainSpoof+"-T", true, guard.Guard.Inbound)
		return
	}
	l.Chain(rules.Mangle, layout.ChainArriving, append(append(l.ownTraffic(false), spared...), goTo(layout.ChainSpoof+"-P"))...)
	l.Chain(rules.Mangle, layout.ChainArrived, append(append(l.ownTraffic(false), spared...), goTo(layout.ChainSpoof+"-I"))...)
	l.spoofTree(layout.ChainSpoof+"-P", false, guard.Guard.Inbound)
	l.spoofTree(layout.ChainSpoof+"-I", true, guard.Guard.Enters)
	l.spoofTree(layout.ChainSpoof+"-T", true, guard.Guard.Passes)
}

// partial reports whether an exception holds for a part of the packets in its selectors.
// The part is those to this host, forwarded ones, or those with a mark. Then PREROUTING,
// INPUT and FORWARD have a tree each.
func (l *cases) partial() bool {
	return slices.ContainsFunc(l.FamilyGuards, func(g *firewall.GuardFacts) bool {
		return g.Exception && g.Inbound() && (g.Enters() != g.Passes() || g.Mark.Mask != 0)
	})
}

// arrived names the chain of INPUT.
func (l *cases) arrived() string {
	if l.partial() {
		return layout.ChainArrived
	}
	return layout.ChainArriving
}

// spoofTree lays out the guards that decide in one place. Marked is true if packets have
// the marks there that other programs give them.
func (l *cases) spoofTree(root string, marked bool, decides func(guard.Guard) bool) {
	var entries []tree.Entry
	for _, g := range l.FamilyGuards {
		if decides(g.Guard) {
			entries = append(entries, l.besideLAN(rules.Mangle, "S", g, layout.Inbound(g), spoofRules(g, marked)))
		}
	}
	l.Tree(tree.Spec{Table: rules.Mangle, Root: root, By: tree.BySource, Merge: isGuard}, entries)
}

func spoofRules(g *firewall.GuardFacts, marked bool) []rules.Rule {
	r := layout.Inbound(g)
	if g.Exception {
		if marked {
			r.Mark = layout.MarkOf(g)
		}
		return exceptionRule(r)
	}
	r.Target, r.Purpose, r.Case = layout.Drop(rules.PurposeSpoof), rules.PurposeSpoofGuard, firewall.Case6
	return []rules.Rule{r}
}

// exceptionRule leaves a packet alone: the policy of an exception decides first.
func exceptionRule(r rules.Rule) []rules.Rule {
	r.Target, r.Purpose, r.Case = rules.Target{Verb: rules.Return}, rules.PurposePierce, firewall.NoCase
	return []rules.Rule{r}
}

// isGuard reports whether a rule leads the traffic of a guard to a chain that decides.
func isGuard(r *rules.Rule) bool {
	switch r.Purpose {
	case rules.PurposeSpoofGuard, rules.PurposeInjectGuard, rules.PurposeLeakGuard:
		return r.Leads()
	}
	return false
}

// spoofedErrors lays out the part of case 6 that no source tells: an ICMP error in clear
// about a tunnel's flow. Its source may be any address, because it claims to be some
// router's, but no router inside the tunnel could send it in clear. conntrack ties it
// to the flow all the same, so the usual rule for RELATED lets it in: it would lower
// the flow's path MTU or end it.
//
// conntrack drops an error that is not for the sender of the quoted packet, and
// before DNAT that is an address of the tunnel's local selector.
func (l *cases) spoofedErrors() {
	began, replied := layout.ChainQuoted+"-T", layout.ChainQuoted+"-R"
	l.Chain(rules.Mangle, layout.ChainQuoted, append(l.ownErrors(),
		rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: began}, Purpose: rules.PurposeDispatch},
		rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: replied}, Purpose: rules.PurposeDispatch},
	)...)
	l.Tree(tree.Spec{Table: rules.Mangle, Root: began, By: tree.ByOriginSource, Rare: true, Merge: isGuard}, l.quotedEntries(false))
	l.Tree(tree.Spec{Table: rules.Mangle, Root: replied, By: tree.ByReplySource, Rare: true, Merge: isGuard}, l.quotedEntries(true))
}

// ownErrors spares errors about this host's own IKE and ESP, which a selector that
// covers the peer would claim: they tell the path MTU of the tunnel itself.
func (l *cases) ownErrors() []rules.Rule {
	about := []rules.CtMatch{{Proto: xfrm.ESP}, {Proto: xfrm.AH}}
	own := func(at netip.Prefix, port firewall.Ports) {
		about = append(about, rules.CtMatch{Proto: xfrm.UDP, OrigSrc: at, OrigSPorts: port}, rules.CtMatch{Proto: xfrm.UDP, OrigDst: at, OrigDPorts: port})
	}
	for _, port := range []uint16{firewall.IKE, firewall.NATT} {
		own(netip.Prefix{}, firewall.Port(port))
	}
	for _, at := range l.FamilyEncapPorts() {
		own(prefix.Single(at.Addr()), firewall.Port(at.Port()))
	}
	var list []rules.Rule
	for _, ct := range about {
		list = append(list, rules.Rule{DstType: rules.Local, Ct: ct, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt})
	}
	return list
}

// quotedEntries are the guards' rules for flows that the remote end began, or that it
// answers. The tree finds them by its address in the flow, because many tunnels can have
// the local selector in common.
//
// An exception holds in the other tree too, whatever the flow's other end is. The packets
// that it spares in one tree meet the other as well. There a later guard with a remote
// selector that covers the other end would take that for its own.
func (l *cases) quotedEntries(replied bool) []tree.Entry {
	var entries []tree.Entry
	for _, g := range l.FamilyGuards {
		began, answered, ok := flowsOf(g)
		if !g.Inbound() || !ok {
			continue
		}
		ct, other := began, answered
		if replied {
			ct, other = answered, began
		}
		if !g.Exception {
			entries = append(entries, l.quotedBesideLAN(g, quotedRule(g, ct), replied))
			continue
		}
		entries = append(entries, layout.Entry(g.Remote, exceptionRule(quotedRule(g, ct))...))
		entries = append(entries, layout.Entry(l.Everything(), exceptionRule(quotedRule(g, other))...))
	}
	return entries
}

// quotedRule drops errors about a flow of the guard's pair.
func quotedRule(g *firewall.GuardFacts, ct rules.CtMatch) rules.Rule {
	return rules.Rule{Dst: g.Local, Ct: ct, Target: layout.Drop(rules.PurposeSpoof), Purpose: rules.PurposeSpoofGuard, Tunnel: g.Tunnel, Case: firewall.Case6}
}

// flowsOf matches the flows of a guard's pair: those that the remote end began, and
// those that it answers. It reports false for a pair with an ICMP type, because no
// rule tells its flows from others between the same hosts.
func flowsOf(g *firewall.GuardFacts) (began, answered rules.CtMatch, ok bool) {
	local, remote := layout.PortsOf(g.LocalPort), layout.PortsOf(g.RemotePort)
	began, answered = rules.CtMatch{Proto: g.Proto, OrigSrc: g.Remote}, rules.CtMatch{Proto: g.Proto, ReplSrc: g.Remote}
	if local != (firewall.Ports{}) || remote != (firewall.Ports{}) {
		if g.Proto == xfrm.ICMP || g.Proto == xfrm.ICMPv6 {
			return rules.CtMatch{}, rules.CtMatch{}, false
		}
		began.OrigSPorts, began.OrigDPorts = remote, local
		answered.OrigSPorts, answered.OrigDPorts = local, remote
	}
	return began, answered, true
}

// quotedBesideLAN spares the flows with connected networks below a wider remote
// selector, whichever end is there. The chain of one tree drops errors about its own
// end only: it must not decide ahead of an exception that stands in the other tree.
func (l *cases) quotedBesideLAN(g *firewall.GuardFacts, final rules.Rule, replied bool) tree.Entry {
	if len(g.Exempt) == 0 {
		return layout.Entry(g.Remote, final)
	}
	letter := "Q"
	if replied {
		letter = "R"
	}
	var list []rules.Rule
	if g.Peer.IsValid() && g.Remote.Contains(g.Peer) {
		peer := final
		peer.Dst = netip.Prefix{} // the rule that leads here asks for it
		if replied {
			peer.Ct.ReplSrc = prefix.Single(g.Peer)
		} else {
			peer.Ct.OrigSrc = prefix.Single(g.Peer)
		}
		list = append(list, peer)
	}
	for _, n := range g.Exempt {
		network := narrowerOf(n.Prefix, g.Remote)
		for _, ct := range []rules.CtMatch{{OrigSrc: network}, {ReplSrc: network}} {
			list = append(list, rules.Rule{In: n.Device, Ct: ct, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeLAN, Tunnel: g.Tunnel})
		}
	}
	name := lanChain(letter, g)
	l.Chain(rules.Mangle, name, append(list, final)...)
	return layout.Entry(g.Remote, rules.Rule{Dst: g.Local, Target: rules.Target{Verb: rules.Jump, Chain: name}, Purpose: rules.PurposeDispatch, Tunnel: g.Tunnel})
}
