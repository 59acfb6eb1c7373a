package evaluate

import (
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
func Pair(before, after Layout, family xfrm.Family, f *firewall.Facts, more space.Values) [2]*Firewall {
	var w [2]*Firewall
	for i, l := range [2]Layout{before, after} {
		w[i] = l.prepare()
		more.Add(w[i].values())
	}
	w[0].model = model{Space: space.New(family, f, more, true)}
	w[1].model = w[0].model
	return w
}

// Values are those that the layout asks for.
func (l Layout) Values() space.Values { return l.prepare().values() }

func (w *Firewall) values() space.Values {
	var v space.Values
	if w.rules != nil {
		v.Add(w.rules.values())
	}
	if w.table != nil {
		v.Add(w.table.values())
	}
	return v
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
// no value that w's space lacks.
func (w *Firewall) Instead(l Layout) *Firewall {
	other := l.prepare()
	other.model, other.cases = w.model, w.cases
	return other
}
