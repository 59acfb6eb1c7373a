package firewall

import (
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// inject lays out case 6b: an unverified packet from a local to a remote selector that
// came in by an interface behind which its source does not live. The gateway would
// encrypt a stranger's packet.
func (l *layout) inject() {
	inject := l.neverJudged(false, l.within, ByDestination)
	inject = append(inject, l.asymmetric()...)
	inject = append(inject, rules.Rule{RPFilterInvert: true, Target: toInjectTree(), Purpose: rules.PurposeDispatch})
	l.chain(rules.Mangle, chainInject, append(inject, l.fromUplinks()...)...)
	l.home()
	var entries []TreeEntry
	for _, g := range l.guards {
		if g.outbound() {
			entries = append(entries, entry(g.Remote, injectRules(g)...))
		}
	}
	l.tree(TreeSpec{Table: rules.Mangle, Root: chainInject + "-T", By: ByDestination, Merge: isGuard}, entries)
}

// toInjectTree leads strangers' packets to the guards' pairs.
func toInjectTree() rules.Target { return rules.Target{Verb: rules.Goto, Chain: chainInject + "-T"} }

// fromUplinks lead packets of uplinks to the networks behind this gateway.
func (l *layout) fromUplinks() []rules.Rule {
	var list []rules.Rule
	for _, name := range l.Uplinks {
		list = append(list, rules.Rule{In: name, Target: rules.Target{Verb: rules.Jump, Chain: chainHome}, Purpose: rules.PurposeDispatch})
	}
	return list
}

// home spares sources that live behind this gateway, and leads the others of local
// selectors to the guards' pairs.
func (l *layout) home() {
	var list []rules.Rule
	for _, p := range l.Behind {
		if xfrm.FamilyOf(p.Addr()) == l.family && overlapsAny(p, l.PartlyBehind) {
			list = append(list, rules.Rule{Src: p, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeLAN})
		}
	}
	for _, p := range l.PartlyBehind {
		if xfrm.FamilyOf(p.Addr()) == l.family {
			list = append(list, rules.Rule{Src: p, Target: toInjectTree(), Purpose: rules.PurposeDispatch})
		}
	}
	l.chain(rules.Mangle, chainHome, list...)
}

func injectRules(g *GuardFacts) []rules.Rule {
	r := outboundRule(g)
	if g.Pierce {
		return exceptionRule(r)
	}
	r.Target, r.Purpose, r.Case = drop(rules.PurposeInject), rules.PurposeInjectGuard, rules.Case6b
	return []rules.Rule{r}
}
