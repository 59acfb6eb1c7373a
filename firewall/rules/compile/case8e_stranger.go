package compile

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// strangerRules keep out new flows that come in where peers are, unverified, and would
// go into a tunnel that takes any source: the kernel would encrypt them. They are left to
// the rest of the firewall, or dropped where lockdown holds.
func (l *cases) strangerRules() []rules.Rule {
	var rules []rules.Rule
	for i := range l.Strangers {
		if s := &l.Strangers[i]; !s.Remote.IsValid() || xfrm.FamilyOf(s.Remote.Addr()) == l.Family {
			rules = append(rules, strangerRule(s, l.Marks, l.strangerTarget(s)))
		}
	}
	slices.SortFunc(rules, compareText(l.Family))
	return slices.Compact(rules)
}

func (l *cases) strangerTarget(s *firewall.Stranger) rules.Target {
	if l.Lockdown == nil || len(l.WAN) > 0 && !slices.Contains(l.WAN, s.In) {
		return rules.Target{Verb: rules.Return}
	}
	l.Chain(rules.Filter, layout.ChainDropLockdown, l.LockedOut()...)
	return rules.Target{Verb: rules.Goto, Chain: layout.ChainDropLockdown}
}

func strangerRule(s *firewall.Stranger, m firewall.Marks, to rules.Target) rules.Rule {
	r := rules.Rule{
		Mark: layout.Lacks(m.Verified), Ct: rules.CtMatch{State: rules.CtRelated | rules.CtEstablished, NotState: true},
		In: s.In, Out: s.Out, Target: to, Purpose: rules.PurposeStranger, Tunnel: s.Tunnel, Case: firewall.Case8e,
	}
	if to.Verb == rules.Goto {
		r.Case = firewall.NoCase // the verdict is lockdown's
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
