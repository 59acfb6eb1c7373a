package tree

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// MaxPrefilter is how many prefixes a prefilter has at most. A packet that no guard
// is about meets that many rules in place of one, but none of the rules behind.
const MaxPrefilter = 4

// Prefilter repeats a rule that leads to guards for each of the few prefixes that
// hold all their remote selectors, as the source or the destination. A packet between
// other addresses passes the guards and their exemptions by.
func Prefilter(within []netip.Prefix, by Direction, lead rules.Rule) []rules.Rule {
	lead.Purpose = rules.PurposeDispatch
	var rules []rules.Rule
	for _, p := range within {
		r := lead
		if p.Bits() > 0 {
			*by.Field(&r) = p
		}
		rules = append(rules, r)
	}
	return rules
}
