package compile

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// inject lays out case 6b: an unverified packet from a local to a remote selector that
// came in by an interface behind which its source does not live. The gateway would
// encrypt a stranger's packet.
func (l *cases) inject() {
	inject := l.neverJudged(false, l.Within, tree.ByDestination)
	inject = append(inject, l.asymmetric()...)
	inject = append(inject, rules.Rule{RPFilterInvert: true, Target: toInjectTree(), Purpose: rules.PurposeDispatch})
	l.Chain(rules.Mangle, layout.ChainInject, append(inject, l.fromUplinks()...)...)
	l.home()
	var entries []tree.Entry
	for _, g := range l.FamilyGuards {
		if g.Outbound() {
			entries = append(entries, layout.Entry(g.Remote, injectRules(g)...))
		}
	}
	l.Tree(tree.Spec{Table: rules.Mangle, Root: layout.ChainInject + "-T", By: tree.ByDestination, Merge: isGuard}, entries)
}

// toInjectTree leads strangers' packets to the guards' pairs.
func toInjectTree() rules.Target {
	return rules.Target{Verb: rules.Goto, Chain: layout.ChainInject + "-T"}
}

// fromUplinks lead packets of uplinks to the networks behind this gateway.
func (l *cases) fromUplinks() []rules.Rule {
	var list []rules.Rule
	for _, name := range l.Uplinks {
		list = append(list, rules.Rule{In: name, Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainHome}, Purpose: rules.PurposeDispatch})
	}
	return list
}

// home spares sources that live behind this gateway, and leads the others of local
// selectors to the guards' pairs.
func (l *cases) home() {
	var list []rules.Rule
	for _, p := range l.Behind {
		if xfrm.FamilyOf(p.Addr()) == l.Family && prefix.OverlapsAny(p, l.PartlyBehind) {
			list = append(list, rules.Rule{Src: p, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeLAN})
		}
	}
	for _, p := range l.PartlyBehind {
		if xfrm.FamilyOf(p.Addr()) == l.Family {
			list = append(list, rules.Rule{Src: p, Target: toInjectTree(), Purpose: rules.PurposeDispatch})
		}
	}
	l.Chain(rules.Mangle, layout.ChainHome, list...)
}

func injectRules(g *firewall.GuardFacts) []rules.Rule {
	r := layout.Outbound(g)
	if g.Exception {
		return exceptionRule(r)
	}
	r.Target, r.Purpose, r.Case = layout.Drop(rules.PurposeInject), rules.PurposeInjectGuard, firewall.Case6b
	return []rules.Rule{r}
}

// injectAfterDNAT leads to the part of case 6b that shows only after DNAT: a stranger
// with an address of the LAN sends to a port-forward that leads to the other end of a
// tunnel. In PREROUTING the packet was for this host; now it is about to be encrypted.
func injectAfterDNAT() rules.Rule {
	return rules.Rule{
		Policy: rules.PolicyMatch{Dir: rules.PolicyOut}, Ct: rules.CtMatch{State: rules.CtDNAT, Dir: rules.CtOriginal},
		Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainMapped}, Purpose: rules.PurposeDispatch,
	}
}

// injectedAfterDNAT drops such packets if their source lives behind another interface than the
// one they came in by. rpfilter works in PREROUTING only, so the routes to the local
// selectors stand here as rules, the most specific first.
func (l *cases) injectedAfterDNAT() {
	// Decrypted packets and those out of tunnel devices are no stranger's.
	list := []rules.Rule{{Policy: rules.PolicyMatch{Dir: rules.PolicyIn}, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone}}
	list = append(list, l.fromDevices()...)
	list = append(list, l.asymmetric()...)
	for i, h := range l.Homes {
		if xfrm.FamilyOf(h.Prefix.Addr()) != l.Family {
			continue
		}
		list = append(list, rules.Rule{Src: h.Prefix, In: h.Device, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeLAN})
		if i+1 == len(l.Homes) || l.Homes[i+1].Prefix != h.Prefix {
			list = append(list, rules.Rule{Src: h.Prefix, Target: layout.Drop(rules.PurposeInject), Purpose: rules.PurposeInjectGuard, Case: firewall.Case6b})
		}
	}
	l.Chain(rules.Mangle, layout.ChainMapped, append(list, l.fromUplinks()...)...)
}

// asymmetric spares interfaces on which packets of the LAN may arrive although the
// way back leads elsewhere.
func (l *cases) asymmetric() []rules.Rule {
	var list []rules.Rule
	for _, name := range l.Asymmetric {
		list = append(list, rules.Rule{In: name, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt})
	}
	return list
}
