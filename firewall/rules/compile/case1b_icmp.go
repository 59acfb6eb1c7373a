package compile

import (
	"cmp"
	"net/netip"
	"slices"

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
	l.Chain(rules.Mangle, layout.ChainForeign, rules.Rule{Target: layout.SetMark(0, l.Marks.Verified), Purpose: rules.PurposeForeign})
	l.owner()
}

func relatedRule(c *firewall.Claim, ct rules.CtMatch, m firewall.Marks) rules.Rule {
	return confirmed(rules.Rule{
		Dst: c.Pair.Local, Policy: layout.PolicyIn(c.In), Ct: ct, Target: layout.SetMark(m.Verified, m.Verified), Purpose: rules.PurposeRelated, Tunnel: c.Tunnel, Case: firewall.Case1b,
	}, c.Enforced, m)
}

// owner lays out the sources of live tunnels, the most specific first. Each prefix
// ends with the rule for packets of every other tunnel.
func (l *cases) owner() {
	var owners []*firewall.Claim
	for _, c := range l.FamilyClaims {
		if !c.PolicyOnly && c.Live {
			owners = append(owners, c)
		}
	}
	slices.SortStableFunc(owners, func(x, y *firewall.Claim) int {
		return cmp.Or(cmp.Compare(y.Pair.Remote.Bits(), x.Pair.Remote.Bits()), x.Pair.Remote.Addr().Compare(y.Pair.Remote.Addr()))
	})
	var entries []tree.Entry
	for len(owners) > 0 {
		source, n := owners[0].Pair.Remote, 1
		for n < len(owners) && owners[n].Pair.Remote == source {
			n++
		}
		entries = append(entries, layout.Entry(source, ownerRules(source, owners[:n])...))
		owners = owners[n:]
	}
	l.Tree(tree.Spec{Table: rules.Mangle, Root: layout.ChainOwner, By: tree.BySource, Rare: true, Merge: leadsToForeign}, entries)
}

// ownerRules return packets that came out of an owner's SAs. The last rule leaves the
// tree: one prefix is decided, and a wider owner has no say.
func ownerRules(source netip.Prefix, owners []*firewall.Claim) []rules.Rule {
	var list []rules.Rule
	for _, c := range owners {
		r := rules.Rule{Src: source, Policy: layout.PolicyIn(c.In), Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone, Tunnel: c.Tunnel}
		if !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	return append(list, rules.Rule{Src: source, Target: rules.Target{Verb: rules.Goto, Chain: layout.ChainForeign}, Purpose: rules.PurposeDispatch})
}

func leadsToForeign(r *rules.Rule) bool { return r.Target.Chain == layout.ChainForeign }
