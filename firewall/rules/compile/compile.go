// Package compile lays facts out as the rules of the iptables engine. Each case of
// xfrmfw(7) is in a file of its own, such as case6_spoof.go, and hooks.go has the chains of
// the hooks in mangle; package accept has filter and nat, and package layout the parts that
// cases share. It decides nothing: package decide has decided before.
package compile

import (
	"reflect"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/accept"
	"github.com/xfrmfw/xfrmfw/firewall/rules/degrade"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Result is the facts about a host and the rules that lay them out.
type Result struct {
	firewall.Facts
	// Rulesets has one entry per family: IPv4, then IPv6.
	Rulesets []rules.Ruleset
	// Degraded is true if rules are replaced or left out, because iptables or the kernel
	// lacks extensions.
	Degraded bool
}

// Compile decides the facts and lays them out.
func Compile(in firewall.Input) Result {
	f := decide.Facts(in)
	return Result{Facts: f, Rulesets: Rulesets(f)}
}

// Rulesets lays facts out as iptables rules, for each family of the host: IPv4,
// then IPv6. It is pure: equal facts give equal rules in the same order.
func Rulesets(f firewall.Facts) []rules.Ruleset {
	var sets []rules.Ruleset
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		if family == xfrm.IPv6 && f.NoIPv6 {
			continue
		}
		l := &cases{layout.New(&f, family)}
		l.mangle()
		forwarded, own := l.refuse()
		accept.Filter(l.Layout, accept.Before{Forwarded: forwarded, Own: own, Strangers: l.strangerRules()})
		accept.NAT(l.Layout)
		sets = append(sets, l.Ruleset())
	}
	return sets
}

// Without returns the result for programs that lack features, by family, with a warning
// for each feature that was needed. The receiver is not changed.
func (r Result) Without(lacks map[xfrm.Family]rules.Features, host xfrm.Host) Result {
	sets, warnings := degrade.Rulesets(r.Rulesets, lacks, host)
	r.Rulesets = sets
	if len(warnings) > 0 {
		r.Degraded = true
		r.Warnings = append(slices.Clone(r.Warnings), warnings...)
		slices.Sort(r.Warnings)
	}
	return r
}

// Compiler lays facts out again and again, as a daemon does. Its results are those of
// Compile. Equal facts, such as those after a rekey, have the very same rule sets, and
// chains with equal rules have the very same Rules, by which a Planner knows them. The
// zero value is ready to use; it is not for concurrent use.
type Compiler struct {
	// Layout lays facts out in place of Rulesets, if it is set.
	Layout func(firewall.Facts) []rules.Ruleset

	last Result
}

// Compile decides the facts and lays them out.
func (c *Compiler) Compile(in firewall.Input) Result {
	f := decide.Facts(in)
	if c.last.Rulesets != nil && reflect.DeepEqual(f, c.last.Facts) {
		return c.last
	}
	layOut := Rulesets
	if c.Layout != nil {
		layOut = c.Layout
	}
	sets := layOut(f)
	keepRules(c.last.Rulesets, sets)
	c.last = Result{Facts: f, Rulesets: sets}
	return c.last
}

// keepRules gives chains that have the same rules as before the very same list. Both
// are in the order of Rulesets.
func keepRules(before, after []rules.Ruleset) {
	for i := range after {
		if i >= len(before) || before[i].Family != after[i].Family {
			return
		}
		old, chains := before[i].Chains, after[i].Chains
		for j := range chains {
			for len(old) > 0 && layout.CompareChains(old[0], chains[j]) < 0 {
				old = old[1:]
			}
			if len(old) > 0 && layout.CompareChains(old[0], chains[j]) == 0 && old[0].Rules.Equal(chains[j].Rules) {
				chains[j].Rules = old[0].Rules
			}
		}
	}
}
