package compile

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
)

// related lays out case 1b: an ICMP error RELATED to a tunnel's own flow. Errors come
// from any router inside the tunnel, so the source alone says nothing; but if it lies
// in the selectors of another live tunnel, its errors have to come out of that one.
//
// The flow has to be the tunnel's own, whichever end began it: a peer has no say in
// the flows of others. The flow's remote end leads the way, because many tunnels can
// have the local selector in common.
func (l *cases) related() {
	l.Chain(rules.Mangle, layout.ChainRelated,
		rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainRelatedTo}, Purpose: rules.PurposeDispatch},
		rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainRelatedRe}, Purpose: rules.PurposeDispatch},
		rules.Rule{Mark: layout.Has(l.Marks.Verified), Target: rules.Target{Verb: rules.Goto, Chain: layout.ChainOwner}, Purpose: rules.PurposeDispatch},
	)
	var began, replied []tree.Entry
	for _, c := range l.FamilyClaims {
		if c.PolicyOnly {
			continue
		}
		began = append(began, layout.Entry(c.Pair.Remote, relatedRule(c, rules.CtMatch{State: rules.CtRelated, OrigSrc: c.Pair.Remote}, l.Marks)))
		replied = append(replied, layout.Entry(c.Pair.Remote, relatedRule(c, rules.CtMatch{State: rules.CtRelated, ReplSrc: c.Pair.Remote}, l.Marks)))
	}
	l.Tree(tree.Spec{Table: rules.Mangle, Root: layout.ChainRelatedTo, By: tree.ByOriginSource, Rare: true, AnyOrder: true}, began)
	l.Tree(tree.Spec{Table: rules.Mangle, Root: layout.ChainRelatedRe, By: tree.ByReplySource, Rare: true, AnyOrder: true}, replied)
	l.owner()
}

func relatedRule(c *firewall.Claim, ct rules.CtMatch, m firewall.Marks) rules.Rule {
	return confirmed(rules.Rule{
		Dst: c.Pair.Local, Policy: layout.PolicyIn(c.In), Ct: ct, Target: layout.SetMark(m.Verified, m.Verified), Purpose: rules.PurposeRelated, Tunnel: c.Tunnel, Case: firewall.Case1b,
	}, c.Enforced, m)
}
