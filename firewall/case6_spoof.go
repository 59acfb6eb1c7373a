package firewall

// spoof lays out case 6: an unverified packet from a remote selector to its local
// one. It stands in INPUT and FORWARD, after DNAT.
func (l *layout) spoof() {
	toTree := Rule{Target: Target{Verb: Goto, Chain: chainSpoof + "-T"}, Purpose: PurposeDispatch}
	spoof := append(l.fromDevices(), l.neverJudged(false, l.within, BySource)...)
	l.chain(Mangle, chainSpoof, append(spoof, toTree)...)
	l.chain(Mangle, chainArriving, append(l.ownTraffic(false), Rule{Target: Target{Verb: Goto, Chain: chainSpoof}, Purpose: PurposeDispatch})...)
	var entries []TreeEntry
	for _, g := range l.guards {
		if g.inbound() {
			entries = append(entries, l.besideLAN(Mangle, "S", g, inboundRule(g), spoofRules(g)))
		}
	}
	l.tree(TreeSpec{Table: Mangle, Root: chainSpoof + "-T", By: BySource, Merge: isGuard}, entries)
}

func spoofRules(g *GuardFacts) []Rule {
	r := inboundRule(g)
	if g.Pierce {
		return exceptionRule(r)
	}
	r.Target, r.Purpose, r.Case = drop(PurposeSpoof), PurposeSpoofGuard, Case6
	return []Rule{r}
}

// exceptionRule leaves a packet alone: the policy of an exception decides first.
func exceptionRule(r Rule) []Rule {
	r.Target, r.Purpose, r.Case = Target{Verb: Return}, PurposePierce, NoCase
	return []Rule{r}
}

// isGuard reports whether a rule leads the traffic of a guard to a chain that decides.
func isGuard(r *Rule) bool {
	switch r.Purpose {
	case PurposeSpoofGuard, PurposeInjectGuard, PurposeLeakGuard:
		return r.leads()
	}
	return false
}
