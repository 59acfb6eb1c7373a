package firewall

import (
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"net/netip"
)

// maxPrefilter is how many prefixes a prefilter has at most. A packet that no guard
// is about meets that many rules in place of one, but none of the rules behind.
const maxPrefilter = 4

// prefilter repeats a rule that leads to guards for each of the few prefixes that
// hold all their remote selectors, as the source or the destination. A packet between
// other addresses passes the guards and their exemptions by.
func prefilter(within []netip.Prefix, by Direction, lead rules.Rule) []rules.Rule {
	lead.Purpose = rules.PurposeDispatch
	var rules []rules.Rule
	for _, p := range within {
		r := lead
		if p.Bits() > 0 {
			*by.field(&r) = p
		}
		rules = append(rules, r)
	}
	return rules
}

// guardedPrefixes are the few prefixes that hold the remote selectors of guards.
// Exceptions only take from them.
func guardedPrefixes(guards []*GuardFacts) []netip.Prefix {
	var keys []netip.Prefix
	for _, g := range guards {
		if !g.Pierce {
			keys = append(keys, g.Remote.Masked())
		}
	}
	return coverPrefixes(keys, maxPrefilter)
}
