package compile

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
)

// errors lays out case 8c: an ICMP error quotes a packet, so it must not go to a
// remote selector in clear unless it belongs to another flow.
func (l *cases) errors() {
	var entries []tree.Entry
	for _, g := range l.FamilyGuards {
		if !g.Outbound() {
			continue
		}
		if g.Exception {
			entries = append(entries, layout.Entry(g.Remote, exceptionRule(rules.Rule{Src: g.Local, Dst: g.Remote, Mark: layout.MarkOf(g), Tunnel: g.Tunnel})...))
			continue
		}
		entries = append(entries, l.besideLAN(rules.Mangle, "E", g, rules.Rule{Dst: g.Remote}, l.errorRules(g)))
	}
	l.Tree(tree.Spec{Table: rules.Mangle, Root: layout.ChainError, By: tree.ByDestination, Rare: true, Merge: isGuard}, entries)
}

// errorRules drop a pair's errors. An error that goes to the remote selector and is
// about a flow of the local one is about a flow between the two, as long as the
// selectors are apart: then the rules name the local one only, and all guards that
// have it share them.
func (l *cases) errorRules(g *firewall.GuardFacts) []rules.Rule {
	base := rules.Rule{Dst: g.Remote, Purpose: rules.PurposeLeakGuard, Tunnel: g.Tunnel}
	if !g.Local.Overlaps(g.Remote) {
		name := l.SharedName(layout.ChainAbout, g.Local)
		if !l.Holds(rules.Mangle, name) {
			l.Chain(rules.Mangle, name, errorsAbout(rules.Rule{Purpose: rules.PurposeLeakGuard}, g.Local, netip.Prefix{})...)
		}
		base.Target = rules.Target{Verb: rules.Jump, Chain: name}
		return []rules.Rule{base}
	}
	return errorsAbout(base, g.Local, g.Remote)
}

// errorsAbout drop errors from a local to a remote selector: those tied to no flow,
// and those about a flow between the two.
func errorsAbout(base rules.Rule, local, remote netip.Prefix) []rules.Rule {
	var list []rules.Rule
	for _, ct := range []rules.CtMatch{
		{State: rules.CtRelated, NotState: true},
		{State: rules.CtRelated, OrigSrc: remote, OrigDst: local},
		{State: rules.CtRelated, OrigSrc: local, OrigDst: remote},
		{State: rules.CtRelated, ReplSrc: local},
	} {
		r := base
		r.Ct, r.Target, r.Case = ct, layout.Drop(rules.PurposeLeak), firewall.Case8c
		list = append(list, r)
	}
	return list
}
