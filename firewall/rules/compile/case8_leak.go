package compile

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
)

// leak lays out case 8: a packet to a remote selector that leaves in clear (8, 8d), or
// will, because an older NAT decision takes it out of the policy after all hooks (8b).
func (l *cases) leak() {
	var entries []tree.Entry
	for _, g := range l.FamilyGuards {
		if !g.Outbound() {
			continue
		}
		match := leakMatch(g)
		var final []rules.Rule
		switch {
		case g.Exception:
			final = exceptionRule(match)
		case sharesLeakChain(g):
			name := l.SharedName(layout.ChainLocal, g.Local)
			if !l.Holds(rules.Mangle, name) {
				l.Chain(rules.Mangle, name, localLeakRules(g)...)
			}
			r := match
			r.Target, r.Purpose = rules.Target{Verb: rules.Jump, Chain: name}, rules.PurposeLeakGuard
			final = []rules.Rule{r}
		default:
			r := match
			r.Policy, r.Target, r.Purpose, r.Case = rules.PolicyMatch{Dir: rules.PolicyOut, None: true}, layout.Drop(rules.PurposeLeak), rules.PurposeLeakGuard, leakCase(g)
			final = append([]rules.Rule{r}, l.natBeforeTunnel(g)...)
		}
		entries = append(entries, l.besideLAN(rules.Mangle, "L", g, match, final))
	}
	l.Tree(tree.Spec{Table: rules.Mangle, Root: layout.ChainLeak, By: tree.ByDestination, Merge: isGuard}, entries)
}

// leakMatch matches a guard's outbound traffic: by its destination alone in case 8d,
// because the tunnel's virtual IP is gone, or SNAT maps into its local selector only
// after all hooks.
func leakMatch(g *firewall.GuardFacts) rules.Rule {
	match := layout.Leaving(g)
	if g.ByDestination {
		match.Src = netip.PrefixFrom(g.Local.Addr(), 0).Masked()
		match.SPorts = firewall.Ports{}
	}
	return match
}

// leakCase is the case of a guard's packets that leave in clear.
func leakCase(g *firewall.GuardFacts) firewall.Case {
	if g.ByDestination {
		return firewall.Case8d
	}
	return firewall.Case8
}

// sharesLeakChain reports whether the rules of cases 8 and 8b for a guard depend on
// its local selector only, besides the match for its traffic.
func sharesLeakChain(g *firewall.GuardFacts) bool {
	return g.Local.Bits() > 0 && !g.ByDestination && len(g.Locals) == 1
}

// localLeakRules are the rules of cases 8 and 8b that all guards with one local
// selector share: most tunnels of a gateway have the same one, so that a tunnel costs
// one rule in place of three.
func localLeakRules(g *firewall.GuardFacts) []rules.Rule {
	list := []rules.Rule{{Policy: rules.PolicyMatch{Dir: rules.PolicyOut, None: true}, Target: layout.Drop(rules.PurposeLeak), Purpose: rules.PurposeLeakGuard, Case: firewall.Case8}}
	for _, r := range natBeforeTunnelRules(g) {
		list = append(list, rules.Rule{Ct: r.Ct, Target: r.Target, Purpose: r.Purpose, Case: r.Case})
	}
	return list
}

// refuse lays out the feedback of case 8 in filter: the sender of a leak is told, and
// need not wait for a timeout. The drop is mangle's. It returns the rules for FORWARD
// and OUTPUT.
func (l *cases) refuse() (fwd, out []rules.Rule) {
	var forwarded []tree.Entry
	for _, g := range l.FamilyGuards {
		if g.Outbound() {
			forwarded = append(forwarded, l.refuseEntry("L", g))
		}
	}
	if len(forwarded) > 0 {
		fwd = l.refuseLeaks(layout.ChainLeak, nil)
		l.Tree(tree.Spec{Table: rules.Filter, Root: layout.ChainLeak + "-T", By: tree.ByDestination, Merge: isGuard}, forwarded)
	}
	if own := l.ownLeaks(); len(own) > 0 {
		out = l.refuseLeaks(layout.ChainDown, l.ownTraffic(true))
		l.Tree(tree.Spec{Table: rules.Filter, Root: layout.ChainDown + "-T", By: tree.ByDestination, Merge: isGuard}, own)
	}
	return fwd, out
}

// refuseLeaks adds the chain that leads packets without a policy to a tree that
// refuses them, and returns the rules that lead there.
func (l *cases) refuseLeaks(name string, own []rules.Rule) []rules.Rule {
	list := append(l.sparedDevices(), l.neverJudged(true, l.Within, tree.ByDestination)...)
	list = append(list, own...)
	list = append(list, rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: name + "-T"}, Purpose: rules.PurposeDispatch})
	l.Chain(rules.Filter, name, list...)
	return tree.Prefilter(l.Within, tree.ByDestination, rules.Rule{
		Policy: rules.PolicyMatch{Dir: rules.PolicyOut, None: true}, Target: rules.Target{Verb: rules.Jump, Chain: name},
	})
}

// refuseEntry refuses a guard's packets. Only packets without a policy come here.
func (l *cases) refuseEntry(letter string, g *firewall.GuardFacts) tree.Entry {
	match := leakMatch(g)
	if g.Exception {
		return layout.Entry(g.Remote, exceptionRule(layout.Leaving(g))...)
	}
	r := match
	r.Target, r.Purpose, r.Case = rules.Target{Verb: rules.Goto, Chain: layout.ChainRefuse}, rules.PurposeLeakGuard, leakCase(g)
	return l.besideLAN(rules.Filter, letter, g, match, []rules.Rule{r})
}

// ownLeaks are the leaks of this host's own packets. While a policy stands, the kernel
// holds a packet that shows none until the tunnel is up, so only pairs without a
// policy are refused, with the policies of other pairs as exceptions.
func (l *cases) ownLeaks() []tree.Entry {
	var down []netip.Prefix
	for _, g := range l.FamilyGuards {
		if !g.Exception && !g.Held {
			down = append(down, g.Remote)
		}
	}
	if len(down) == 0 {
		return nil
	}
	remotes := prefix.NewSet(down)
	var entries []tree.Entry
	for _, g := range l.FamilyGuards {
		switch {
		case !g.Exception && !g.Held:
			entries = append(entries, l.refuseEntry("O", g))
		// An exception from none of these pairs would decide nothing.
		case g.Outbound() && remotes.Overlaps(g.Remote):
			entries = append(entries, layout.Entry(g.Remote, exceptionRule(layout.Leaving(g))...))
		}
	}
	return entries
}
