package firewall

import (
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"net/netip"
)

// leak lays out case 8: a packet to a remote selector that leaves in clear (8, 8d), or
// will, because an older NAT decision takes it out of the policy after all hooks (8b).
func (l *layout) leak() {
	var entries []TreeEntry
	for _, g := range l.guards {
		if !g.outbound() {
			continue
		}
		match := leakMatch(g)
		var final []rules.Rule
		switch {
		case g.Pierce:
			final = exceptionRule(match)
		case sharesLeakChain(g):
			name := l.sharedName(chainLocal, g.Local)
			if !l.have[rules.ChainKey{Table: rules.Mangle, Name: name}] {
				l.chain(rules.Mangle, name, localLeakRules(g)...)
			}
			r := match
			r.Target, r.Purpose = rules.Target{Verb: rules.Jump, Chain: name}, rules.PurposeLeakGuard
			final = []rules.Rule{r}
		default:
			r := match
			r.Policy, r.Target, r.Purpose, r.Case = rules.PolicyMatch{Dir: rules.PolicyOut, None: true}, drop(rules.PurposeLeak), rules.PurposeLeakGuard, leakCase(g)
			final = append([]rules.Rule{r}, l.natBeforeTunnel(g)...)
		}
		entries = append(entries, l.besideLAN(rules.Mangle, "L", g, match, final))
	}
	l.tree(TreeSpec{Table: rules.Mangle, Root: chainLeak, By: ByDestination, Merge: isGuard}, entries)
}

// leakMatch matches a guard's outbound traffic: by its destination alone in case 8d,
// because the tunnel's virtual IP is gone, or SNAT maps into its local selector only
// after all hooks.
func leakMatch(g *GuardFacts) rules.Rule {
	match := outboundRule(g)
	if g.ByDestination {
		match.Src = netip.PrefixFrom(g.Local.Addr(), 0).Masked()
		match.SPorts = rules.Ports{}
	}
	return match
}

// leakCase is the case of a guard's packets that leave in clear.
func leakCase(g *GuardFacts) rules.Case {
	if g.ByDestination {
		return rules.Case8d
	}
	return rules.Case8
}

// sharesLeakChain reports whether the rules of cases 8 and 8b for a guard depend on
// its local selector only, besides the match for its traffic.
func sharesLeakChain(g *GuardFacts) bool {
	return g.Local.Bits() > 0 && !g.ByDestination && len(g.Locals) == 1
}

// localLeakRules are the rules of cases 8 and 8b that all guards with one local
// selector share: most tunnels of a gateway have the same one, so that a tunnel costs
// one rule in place of three.
func localLeakRules(g *GuardFacts) []rules.Rule {
	list := []rules.Rule{{Policy: rules.PolicyMatch{Dir: rules.PolicyOut, None: true}, Target: drop(rules.PurposeLeak), Purpose: rules.PurposeLeakGuard, Case: rules.Case8}}
	for _, r := range natBeforeTunnelRules(g) {
		list = append(list, rules.Rule{Ct: r.Ct, Target: r.Target, Purpose: r.Purpose, Case: r.Case})
	}
	return list
}
