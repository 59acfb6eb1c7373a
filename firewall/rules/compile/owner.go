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

// owner lays out the sources of live tunnels, the most specific first (cases 1 and 1b): an
// address belongs to the tunnel with the narrowest selector that has it. Each prefix ends
// with the rule for packets of every other tunnel.
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
	l.Chain(rules.Mangle, layout.ChainForeign, rules.Rule{Target: layout.SetMark(0, l.Marks.Verified), Purpose: rules.PurposeForeign})
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
