package compile

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// strangerRules keep out new flows that come in where peers are, unverified, and would
// go into a tunnel that takes any source: the kernel would encrypt them.
func (l *layout) strangerRules() []rules.Rule {
	var rules []rules.Rule
	for i := range l.Strangers {
		if s := &l.Strangers[i]; !s.Remote.IsValid() || xfrm.FamilyOf(s.Remote.Addr()) == l.family {
			rules = append(rules, strangerRule(s, l.Marks))
		}
	}
	slices.SortFunc(rules, compareText(l.family))
	return slices.Compact(rules)
}

func strangerRule(s *firewall.Stranger, m firewall.Marks) rules.Rule {
	r := rules.Rule{
		Mark: lacks(m.Verified), Ct: rules.CtMatch{State: rules.CtRelated | rules.CtEstablished, NotState: true},
		In: s.In, Out: s.Out, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeStranger, Tunnel: s.Tunnel, Case: firewall.Case8e,
	}
	if s.Remote.IsValid() {
		r.Dst, r.Policy = s.Remote, rules.PolicyMatch{Dir: rules.PolicyOut}
	}
	return r
}

func compareText(family xfrm.Family) func(x, y rules.Rule) int {
	return func(x, y rules.Rule) int {
		tx, ty := x.Text(family)+x.Tunnel, y.Text(family)+y.Tunnel
		switch {
		case tx < ty:
			return -1
		case tx > ty:
			return 1
		}
		return 0
	}
}
