package evaluate

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Layout is all that an engine laid out for one family: rules of iptables, or nil, and a
// table of nftables, which decides alone without rules.
type Layout struct {
	Rules *rules.Ruleset
	Table sets.Table
}

// Pair prepares two layouts in one space.
func Pair(before, after Layout, family xfrm.Family, f *firewall.Facts, names []string) [2]*Firewall {
	names = slices.Clone(names)
	var w [2]*Firewall
	for i, l := range [2]Layout{before, after} {
		w[i] = &Firewall{hooks: make(map[hookSight]*evaluator), tables: make(map[sight]*tableEvaluator), scope: space.All}
		if l.Rules != nil {
			w[i].rules = newRuleset(*l.Rules)
			names = append(names, w[i].rules.devices()...)
		}
		if l.Rules == nil || len(l.Table.Chains) > 0 {
			w[i].table = newTable(&l.Table)
			names = append(names, w[i].table.devices()...)
		}
	}
	w[0].model = model{space.New(family, f, names, true)}
	w[1].model = w[0].model
	return w
}
