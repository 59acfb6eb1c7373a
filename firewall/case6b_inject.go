package firewall

// inject lays out case 6b: an unverified packet from a local to a remote selector that
// came in by an interface behind which its source does not live. The gateway would
// encrypt a stranger's packet.
func (l *layout) inject() {
	inject := l.neverJudged(false, l.within, ByDestination)
	inject = append(inject, l.asymmetric()...)
	l.chain(Mangle, chainInject, append(inject, Rule{
		Target: Target{Verb: Goto, Chain: chainInject + "-T"}, Purpose: PurposeDispatch,
	})...)
	var entries []TreeEntry
	for _, g := range l.guards {
		if g.outbound() {
			entries = append(entries, entry(g.Remote, injectRules(g)...))
		}
	}
	l.tree(TreeSpec{Table: Mangle, Root: chainInject + "-T", By: ByDestination, Merge: isGuard}, entries)
}

func injectRules(g *GuardFacts) []Rule {
	r := outboundRule(g)
	if g.Pierce {
		return exceptionRule(r)
	}
	r.NotReverse, r.Target, r.Purpose, r.Case = true, drop(PurposeInject), PurposeInjectGuard, Case6b
	return []Rule{r}
}
