package firewall

import (
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"net/netip"
)

// refuse lays out the feedback of case 8 in filter: the sender of a leak is told, and
// need not wait for a timeout. The drop is mangle's. It returns the rules for FORWARD
// and OUTPUT.
func (l *layout) refuse() (fwd, out []rules.Rule) {
	var forwarded []TreeEntry
	for _, g := range l.guards {
		if g.outbound() {
			forwarded = append(forwarded, l.refuseEntry("L", g))
		}
	}
	if len(forwarded) > 0 {
		fwd = l.refuseLeaks(chainLeak, nil)
		l.tree(TreeSpec{Table: rules.Filter, Root: chainLeak + "-T", By: ByDestination, Merge: isGuard}, forwarded)
	}
	if own := l.ownLeaks(); len(own) > 0 {
		out = l.refuseLeaks(chainDown, l.ownTraffic(true))
		l.tree(TreeSpec{Table: rules.Filter, Root: chainDown + "-T", By: ByDestination, Merge: isGuard}, own)
	}
	return fwd, out
}

// refuseLeaks adds the chain that leads packets without a policy to a tree that
// refuses them, and returns the rules that lead there.
func (l *layout) refuseLeaks(name string, own []rules.Rule) []rules.Rule {
	list := append(l.intoDevices(), l.neverJudged(true, l.within, ByDestination)...)
	list = append(list, own...)
	list = append(list, rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: name + "-T"}, Purpose: rules.PurposeDispatch})
	l.chain(rules.Filter, name, list...)
	return prefilter(l.within, ByDestination, rules.Rule{
		Policy: rules.PolicyMatch{Dir: rules.PolicyOut, None: true}, Target: rules.Target{Verb: rules.Jump, Chain: name},
	})
}

// refuseEntry refuses a guard's packets. Only packets without a policy come here.
func (l *layout) refuseEntry(letter string, g *GuardFacts) TreeEntry {
	match := leakMatch(g)
	if g.Pierce {
		return entry(g.Remote, exceptionRule(outboundRule(g))...)
	}
	r := match
	r.Target, r.Purpose, r.Case = rules.Target{Verb: rules.Goto, Chain: chainRefuse}, rules.PurposeLeakGuard, leakCase(g)
	return l.besideLAN(rules.Filter, letter, g, match, []rules.Rule{r})
}

// ownLeaks are the leaks of this host's own packets. While a policy stands, the kernel
// holds a packet that shows none until the tunnel is up, so only pairs without a
// policy are refused, with the policies of other pairs as exceptions.
func (l *layout) ownLeaks() []TreeEntry {
	var down []netip.Prefix
	for _, g := range l.guards {
		if !g.Pierce && !g.Held {
			down = append(down, g.Remote)
		}
	}
	if len(down) == 0 {
		return nil
	}
	remotes := newPrefixSet(down)
	var entries []TreeEntry
	for _, g := range l.guards {
		switch {
		case !g.Pierce && !g.Held:
			entries = append(entries, l.refuseEntry("O", g))
		// An exception from none of these pairs would decide nothing.
		case g.outbound() && remotes.overlaps(g.Remote):
			entries = append(entries, entry(g.Remote, exceptionRule(outboundRule(g))...))
		}
	}
	return entries
}
