package firewall

import "github.com/xfrmfw/xfrmfw/firewall/rules"

// spoof lays out case 6: an unverified packet from a remote selector to its local
// one. It stands in PREROUTING and again in INPUT and FORWARD, because DNAT, NETMAP and
// REDIRECT lead packets into a local selector and out of it.
func (l *layout) spoof() {
	toTree := rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: chainSpoof + "-T"}, Purpose: rules.PurposeDispatch}
	spoof := append(l.fromDevices(), l.neverJudged(false, l.within, BySource)...)
	l.chain(rules.Mangle, chainSpoof, append(spoof, toTree)...)
	l.chain(rules.Mangle, chainArriving, append(l.ownTraffic(false), rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: chainSpoof}, Purpose: rules.PurposeDispatch})...)
	var entries []TreeEntry
	for _, g := range l.guards {
		if g.inbound() {
			entries = append(entries, l.besideLAN(rules.Mangle, "S", g, inboundRule(g), spoofRules(g)))
		}
	}
	l.tree(TreeSpec{Table: rules.Mangle, Root: chainSpoof + "-T", By: BySource, Merge: isGuard}, entries)
}

func spoofRules(g *GuardFacts) []rules.Rule {
	r := inboundRule(g)
	if g.Pierce {
		return exceptionRule(r)
	}
	r.Target, r.Purpose, r.Case = drop(rules.PurposeSpoof), rules.PurposeSpoofGuard, rules.Case6
	return []rules.Rule{r}
}

// exceptionRule leaves a packet alone: the policy of an exception decides first.
func exceptionRule(r rules.Rule) []rules.Rule {
	r.Target, r.Purpose, r.Case = rules.Target{Verb: rules.Return}, rules.PurposePierce, rules.NoCase
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
