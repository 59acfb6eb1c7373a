package firewall

import "slices"

// strangerRules keep out new flows that come in where peers are, unverified, and would
// go into a tunnel that takes any source: the kernel would encrypt them.
func (l *layout) strangerRules() []Rule {
	var rules []Rule
	for i := range l.Strangers {
		if s := &l.Strangers[i]; !s.Remote.IsValid() || familyOf(s.Remote.Addr()) == l.family {
			rules = append(rules, strangerRule(s, l.Marks))
		}
	}
	slices.SortFunc(rules, compareText(l.family))
	return slices.Compact(rules)
}

func strangerRule(s *Stranger, m Marks) Rule {
	r := Rule{
		Mark: lacks(m.Verified), Ct: CtMatch{State: CtRelated | CtEstablished, NotState: true},
		In: s.In, Out: s.Out, Target: Target{Verb: Return}, Purpose: PurposeStranger, Tunnel: s.Tunnel, Case: Case8e,
	}
	if s.Remote.IsValid() {
		r.Dst, r.Policy = s.Remote, PolicyMatch{Dir: PolicyOut}
	}
	return r
}

func compareText(family Family) func(x, y Rule) int {
	return func(x, y Rule) int {
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
