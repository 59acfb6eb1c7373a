package firewall

import "net/netip"

// errors lays out case 8c: an ICMP error quotes a packet, so it must not go to a
// remote selector in clear unless it belongs to another flow.
func (l *layout) errors() {
	var entries []TreeEntry
	for _, g := range l.guards {
		if !g.outbound() {
			continue
		}
		if g.Pierce {
			entries = append(entries, entry(g.Remote, exceptionRule(Rule{Src: g.Local, Dst: g.Remote, Tunnel: g.Tunnel})...))
			continue
		}
		entries = append(entries, l.besideLAN(Mangle, "E", g, Rule{Dst: g.Remote}, l.errorRules(g)))
	}
	l.tree(TreeSpec{Table: Mangle, Root: chainError, By: ByDestination, Rare: true, Merge: isGuard}, entries)
}

// errorRules drop a pair's errors. An error that goes to the remote selector and is
// about a flow of the local one is about a flow between the two, as long as the
// selectors are apart: then the rules name the local one only, and all guards that
// have it share them.
func (l *layout) errorRules(g *GuardFacts) []Rule {
	base := Rule{Dst: g.Remote, Purpose: PurposeLeakGuard, Tunnel: g.Tunnel}
	if !g.Local.Overlaps(g.Remote) {
		name := l.sharedName(chainAbout, g.Local)
		if !l.have[chainKey{Mangle, name}] {
			l.chain(Mangle, name, errorsAbout(Rule{Purpose: PurposeLeakGuard}, g.Local, netip.Prefix{})...)
		}
		base.Target = Target{Verb: Jump, Chain: name}
		return []Rule{base}
	}
	return errorsAbout(base, g.Local, g.Remote)
}

// errorsAbout drop errors from a local to a remote selector: those tied to no flow,
// and those about a flow between the two.
func errorsAbout(base Rule, local, remote netip.Prefix) []Rule {
	var rules []Rule
	for _, ct := range []CtMatch{
		{State: CtRelated, NotState: true},
		{State: CtRelated, OrigSrc: remote, OrigDst: local},
		{State: CtRelated, OrigSrc: local, OrigDst: remote},
		{State: CtRelated, ReplSrc: local},
	} {
		r := base
		r.Ct, r.Target, r.Case = ct, drop(PurposeLeak), Case8c
		rules = append(rules, r)
	}
	return rules
}
