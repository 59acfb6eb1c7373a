package firewall

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Result is the facts about a host and the rules that lay them out.
type Result struct {
	Facts
	// Rulesets has one entry per family: IPv4, then IPv6.
	Rulesets []rules.Ruleset
}

// Compile decides the facts and lays them out.
func Compile(in Input) Result {
	f := Decide(in)
	return Result{Facts: f, Rulesets: Rulesets(f)}
}

// Rulesets lays facts out as iptables rules, for each family of the host: IPv4,
// then IPv6. It is pure: equal facts give equal rules in the same order.
func Rulesets(f Facts) []rules.Ruleset {
	var sets []rules.Ruleset
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		if family == xfrm.IPv6 && f.NoIPv6 {
			continue
		}
		l := newLayout(&f, family)
		l.mangle()
		l.filter()
		l.nat()
		slices.SortFunc(l.set.Chains, compareChains)
		rules.Prune(&l.set)
		sets = append(sets, l.set)
	}
	return sets
}

// layout collects the chains of one family.
type layout struct {
	*Facts
	family xfrm.Family
	set    rules.Ruleset
	// have are the chains that were added.
	have map[rules.ChainKey]bool
	// InFamily and claims are the guards and claims of the family.
	guards []*GuardFacts
	claims []*Claim
	// within are the few prefixes that hold all guarded remote selectors.
	within []netip.Prefix
	// names caches the names of chains that several guards share.
	names map[sharedKey]string
}

func newLayout(f *Facts, family xfrm.Family) *layout {
	l := &layout{Facts: f, family: family, have: make(map[rules.ChainKey]bool), names: make(map[sharedKey]string)}
	l.set.Family = family
	for i := range f.Guards {
		if g := &f.Guards[i]; g.family() == family {
			l.guards = append(l.guards, g)
		}
	}
	for i := range f.Claims {
		if c := &f.Claims[i]; c.Pair.Family() == family {
			l.claims = append(l.claims, c)
		}
	}
	l.within = guardedPrefixes(l.guards)
	return l
}

// chain adds a chain. A chain that several facts share is added once.
func (l *layout) chain(table rules.Table, name string, list ...rules.Rule) {
	l.add(rules.Chain{Table: table, Name: name, Rules: rules.ListOf(list...)})
}

func (l *layout) add(chains ...rules.Chain) {
	for _, c := range chains {
		if key := (rules.ChainKey{Table: c.Table, Name: c.Name}); !l.have[key] {
			l.have[key] = true
			l.set.Chains = append(l.set.Chains, c)
		}
	}
}

func compareChains(x, y rules.Chain) int {
	if x.Table != y.Table {
		return cmp.Compare(x.Table.Order(), y.Table.Order())
	}
	return cmp.Compare(x.Name, y.Name)
}

func (l *layout) hook(table rules.Table, from, to string) {
	l.set.Hooks = append(l.set.Hooks, rules.Hook{Table: table, From: from, To: to})
}
