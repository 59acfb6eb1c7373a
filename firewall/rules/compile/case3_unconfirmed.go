package compile

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
)

// unconfirmed lays out the chain that decides case 3: let pass, or dropped under
// enforce.
func (l *cases) unconfirmed() {
	last := rules.Rule{Target: l.MarkVerified(), Purpose: rules.PurposeDone}
	if l.Enforce {
		last = rules.Rule{Target: rules.Target{Verb: rules.Drop}, Purpose: rules.PurposeUnconfirmed, Case: firewall.Case3}
	}
	l.Chain(rules.Mangle, layout.ChainUnconfirmed, append(l.Logged(rules.PurposeUnconfirmed), last)...)
}

// untagged completes the rule for a tunnel's packets without TAG: cases 2 and 3.
func untagged(r rules.Rule, untaggable, enforced bool, m firewall.Marks) rules.Rule {
	r.Mark = layout.Lacks(m.Tag)
	switch {
	case untaggable:
		r.Target, r.Purpose, r.Case = layout.SetMark(m.Verified, m.Verified), rules.PurposePolicyOnly, firewall.Case2
	case enforced:
		r.Target, r.Purpose, r.Case = rules.Target{Verb: rules.Goto, Chain: layout.ChainUnconfirmed}, rules.PurposeUnconfirmedGuard, firewall.Case3
	default:
		r.Target, r.Purpose, r.Case = rules.Target{Verb: rules.Jump, Chain: layout.ChainUnconfirmed}, rules.PurposeUnconfirmed, firewall.Case3
	}
	return r
}

// confirmed adds TAG to a rule that verifies on the policy match, where case 3 is
// dropped.
func confirmed(r rules.Rule, enforced bool, m firewall.Marks) rules.Rule {
	if enforced {
		r.Mark = layout.Has(m.Tag)
	}
	return r
}
