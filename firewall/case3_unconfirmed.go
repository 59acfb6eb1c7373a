package firewall

// unconfirmed lays out the chain that decides case 3: let pass, or dropped under
// enforce.
func (l *layout) unconfirmed() {
	last := Rule{Target: l.markVerified(), Purpose: PurposeDone}
	if l.Enforce {
		last = Rule{Target: Target{Verb: Drop}, Purpose: PurposeUnconfirmed, Case: Case3}
	}
	l.chain(Mangle, chainUnconfirmed, append(l.logged(PurposeUnconfirmed), last)...)
}

// untagged completes the rule for a tunnel's packets without TAG: cases 2 and 3.
func untagged(r Rule, untaggable, enforced bool, m Marks) Rule {
	r.Mark = lacks(m.Tag)
	switch {
	case untaggable:
		r.Target, r.Purpose, r.Case = setMark(m.Verified, m.Verified), PurposePolicyOnly, Case2
	case enforced:
		r.Target, r.Purpose, r.Case = Target{Verb: Goto, Chain: chainUnconfirmed}, PurposeUnconfirmedGuard, Case3
	default:
		r.Target, r.Purpose, r.Case = Target{Verb: Jump, Chain: chainUnconfirmed}, PurposeUnconfirmed, Case3
	}
	return r
}

// confirmed adds TAG to a rule that verifies on the policy match, where case 3 is
// dropped.
func confirmed(r Rule, enforced bool, m Marks) Rule {
	if enforced {
		r.Mark = has(m.Tag)
	}
	return r
}
