package firewall

import (
	"cmp"
	"net/netip"
	"slices"
)

// related lays out case 1b: an ICMP error RELATED to a tunnel's own flow. Errors come
// from any router inside the tunnel, so the source alone says nothing; but if it lies
// in the selectors of another live tunnel, its errors have to come out of that one.
//
// The flow has to be the tunnel's own, whichever end began it: a peer has no say in
// the flows of others. The flow's remote end leads the way, because many tunnels can
// have the local selector in common.
func (l *layout) related() {
	l.chain(Mangle, chainRelated,
		Rule{Target: Target{Verb: Jump, Chain: chainRelatedTo}, Purpose: PurposeDispatch},
		Rule{Target: Target{Verb: Jump, Chain: chainRelatedRe}, Purpose: PurposeDispatch},
		Rule{Mark: has(l.Marks.Verified), Target: Target{Verb: Goto, Chain: chainOwner}, Purpose: PurposeDispatch},
	)
	var began, replied []TreeEntry
	for _, c := range l.claims {
		if c.PolicyOnly {
			continue
		}
		began = append(began, entry(c.Pair.Remote, relatedRule(c, CtMatch{State: CtRelated, OrigSrc: c.Pair.Remote}, l.Marks)))
		replied = append(replied, entry(c.Pair.Remote, relatedRule(c, CtMatch{State: CtRelated, ReplSrc: c.Pair.Remote}, l.Marks)))
	}
	l.tree(TreeSpec{Table: Mangle, Root: chainRelatedTo, By: ByOriginSource, Rare: true, AnyOrder: true}, began)
	l.tree(TreeSpec{Table: Mangle, Root: chainRelatedRe, By: ByReplySource, Rare: true, AnyOrder: true}, replied)
	l.chain(Mangle, chainForeign, Rule{Target: setMark(0, l.Marks.Verified), Purpose: PurposeForeign})
	l.owner()
}

func relatedRule(c *Claim, ct CtMatch, m Marks) Rule {
	return confirmed(Rule{
		Dst: c.Pair.Local, Policy: policyIn(c.In), Ct: ct, Target: setMark(m.Verified, m.Verified), Purpose: PurposeRelated, Tunnel: c.Tunnel, Case: Case1b,
	}, c.Enforced, m)
}

// owner lays out the sources of live tunnels, the most specific first. Each prefix
// ends with the rule for packets of every other tunnel.
func (l *layout) owner() {
	var owners []*Claim
	for _, c := range l.claims {
		if !c.PolicyOnly && c.Live {
			owners = append(owners, c)
		}
	}
	slices.SortStableFunc(owners, func(x, y *Claim) int {
		return cmp.Or(cmp.Compare(y.Pair.Remote.Bits(), x.Pair.Remote.Bits()), x.Pair.Remote.Addr().Compare(y.Pair.Remote.Addr()))
	})
	var entries []TreeEntry
	for len(owners) > 0 {
		source, n := owners[0].Pair.Remote, 1
		for n < len(owners) && owners[n].Pair.Remote == source {
			n++
		}
		entries = append(entries, entry(source, ownerRules(source, owners[:n])...))
		owners = owners[n:]
	}
	l.tree(TreeSpec{Table: Mangle, Root: chainOwner, By: BySource, Rare: true, Merge: leadsToForeign}, entries)
}

// ownerRules return packets that came out of an owner's SAs. The last rule leaves the
// tree: one prefix is decided, and a wider owner has no say.
func ownerRules(source netip.Prefix, owners []*Claim) []Rule {
	var rules []Rule
	for _, c := range owners {
		r := Rule{Src: source, Policy: policyIn(c.In), Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: c.Tunnel}
		if !slices.Contains(rules, r) {
			rules = append(rules, r)
		}
	}
	return append(rules, Rule{Src: source, Target: Target{Verb: Goto, Chain: chainForeign}, Purpose: PurposeDispatch})
}

func leadsToForeign(r *Rule) bool { return r.Target.Chain == chainForeign }
