package firewall

import "github.com/xfrmfw/xfrmfw/firewall/rules"

// inject lays out case 6b: an unverified packet from a local to a remote selector that
// came in by an interface behind which its source does not live. The gateway would
// encrypt a stranger's packet.
func (l *layout) inject() {
	inject := l.neverJudged(false, l.within, ByDestination)
	inject = append(inject, l.asymmetric()...)
	l.chain(rules.Mangle, chainInject, append(inject, rules.Rule{
		Target: rules.Target{Verb: rules.Goto, Chain: chainInject + "-T"}, Purpose: rules.PurposeDispatch,
	})...)
	var entries []TreeEntry
	for _, g := range l.guards {
		if g.outbound() {
			entries = append(entries, entry(g.Remote, injectRules(g)...))
		}
	}
	l.tree(TreeSpec{Table: rules.Mangle, Root: chainInject + "-T", By: ByDestination, Merge: isGuard}, entries)
}

func injectRules(g *GuardFacts) []rules.Rule {
	r := outboundRule(g)
	if g.Pierce {
		return exceptionRule(r)
	}
	r.RPFilterInvert, r.Target, r.Purpose, r.Case = true, drop(rules.PurposeInject), rules.PurposeInjectGuard, rules.Case6b
	return []rules.Rule{r}
}
