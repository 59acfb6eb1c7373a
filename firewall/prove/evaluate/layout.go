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
		w[i] = l.prepare()
		if w[i].rules != nil {
			names = append(names, w[i].rules.devices()...)
		}
		if w[i].table != nil {
			names = append(names, w[i].table.devices()...)
		}
	}
	w[0].model = model{space.New(family, f, names, true)}
	w[1].model = w[0].model
	return w
}

// prepare returns the firewall of a layout, which has no space yet.
func (l Layout) prepare() *Firewall {
	w := &Firewall{hooks: make(map[hookSight]*evaluator), tables: make(map[sight]*tableEvaluator), scope: space.All}
	if l.Rules != nil {
		w.rules = newRuleset(*l.Rules)
	}
	if l.Rules == nil || len(l.Table.Chains) > 0 {
		w.table = newTable(&l.Table)
	}
	return w
}

// Instead returns the firewall of another layout in the space of w. The layout must name
// no interface that w's space lacks.
func (w *Firewall) Instead(l Layout) *Firewall {
	other := l.prepare()
	other.model, other.cases = w.model, w.cases
	return other
}
