package trace

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// decisive are the purposes that name a packet's case, the strongest first: a
// drop tells more than the classification before it, and that more than an
// accept. The case is that of a rule that has none of its own.
var decisive = [...]struct {
	purpose rules.Purpose
	number  firewall.Case
}{
	{rules.PurposeSpoof, firewall.Case6}, {rules.PurposeInject, firewall.Case6b}, {rules.PurposeCrossed, firewall.Case7}, {rules.PurposeLeak, firewall.Case8}, {rules.PurposeReject, firewall.Case8},
	{rules.PurposeRestricted, firewall.NoCase}, {rules.PurposeLockdown, firewall.NoCase},
	{rules.PurposeVerified, firewall.Case1}, {rules.PurposeRelated, firewall.Case1b}, {rules.PurposeIPComp, firewall.Case1c}, {rules.PurposePolicyOnly, firewall.Case2},
	{rules.PurposeUnconfirmed, firewall.Case3}, {rules.PurposeOverlay, firewall.Case4},
	{rules.PurposeStranger, firewall.Case8e}, {rules.PurposeUnknown, firewall.Case7b},
	{rules.PurposeAcceptIn, firewall.NoCase}, {rules.PurposeAcceptOut, firewall.NoCase}, {rules.PurposeOpen, firewall.NoCase}, {rules.PurposeService, firewall.NoCase},
	{rules.PurposeStray, firewall.Case5},
}

// drops are the purposes of drops that several cases share.
var drops = []rules.Purpose{rules.PurposeSpoof, rules.PurposeInject, rules.PurposeCrossed, rules.PurposeLeak, rules.PurposeReject}

// CaseOf returns the case of a packet that matched these rules in this order, and
// the rule that decided. A packet that matched no decisive rule is of case 9.
//
// A rule's own case holds. A drop that several cases share has none: there the last
// rule with a case before it holds, which led to the drop.
func CaseOf(steps []Step) (firewall.Case, Step) {
	for _, d := range decisive {
		at := lastStep(steps, d.purpose)
		if at < 0 {
			continue
		}
		s := steps[at]
		if d.purpose == rules.PurposeService && s.Rule.Target.Verb == rules.Return {
			continue // a restriction lets it through, and others decide
		}
		if c := s.Rule.Case; c != firewall.NoCase {
			return c, s
		}
		if slices.Contains(drops, d.purpose) {
			return dropCase(steps[:at], d.number), s
		}
		return d.number, s
	}
	return firewall.Case9, Step{}
}

// dropCase returns the case of a drop after these steps: that of the rule which led
// there.
func dropCase(steps []Step, number firewall.Case) firewall.Case {
	for _, s := range slices.Backward(steps) {
		if s.Rule.Case != firewall.NoCase {
			return s.Rule.Case
		}
	}
	return number
}

// lastStep returns the place of the last step with one of the purposes, -1 if there is
// none.
func lastStep(steps []Step, purposes ...rules.Purpose) int {
	for i, s := range slices.Backward(steps) {
		if slices.Contains(purposes, s.Rule.Purpose) {
			return i
		}
	}
	return -1
}

// Last returns the last step with one of the purposes, and whether there is one.
func Last(steps []Step, purposes ...rules.Purpose) (Step, bool) {
	if i := lastStep(steps, purposes...); i >= 0 {
		return steps[i], true
	}
	return Step{}, false
}
