package trace

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// decisive are the purposes that name a packet's case, the strongest first: a
// drop tells more than the classification before it, and that more than an
// accept. The case is that of a rule that has none of its own.
var decisive = [...]struct {
	purpose rules.Purpose
	number  rules.Case
}{
	{rules.PurposeSpoof, rules.Case6}, {rules.PurposeInject, rules.Case6b}, {rules.PurposeCrossed, rules.Case7}, {rules.PurposeLeak, rules.Case8}, {rules.PurposeReject, rules.Case8},
	{rules.PurposeRestricted, rules.NoCase}, {rules.PurposeLockdown, rules.NoCase},
	{rules.PurposeVerified, rules.Case1}, {rules.PurposeRelated, rules.Case1b}, {rules.PurposeIPComp, rules.Case1c}, {rules.PurposePolicyOnly, rules.Case2},
	{rules.PurposeUnconfirmed, rules.Case3}, {rules.PurposeOverlay, rules.Case4},
	{rules.PurposeStranger, rules.Case8e}, {rules.PurposeUnknown, rules.Case7b},
	{rules.PurposeAcceptIn, rules.NoCase}, {rules.PurposeAcceptOut, rules.NoCase}, {rules.PurposeOpen, rules.NoCase}, {rules.PurposeService, rules.NoCase},
	{rules.PurposeStray, rules.Case5},
}

// drops are the purposes of drops that several cases share.
var drops = []rules.Purpose{rules.PurposeSpoof, rules.PurposeInject, rules.PurposeCrossed, rules.PurposeLeak, rules.PurposeReject}

// CaseOf returns the case of a packet that matched these rules in this order, and
// the rule that decided. A packet that matched no decisive rule is of case 9.
//
// A rule's own case holds. A drop that several cases share has none: there the last
// rule with a case before it holds, which led to the drop.
func CaseOf(steps []Step) (rules.Case, Step) {
	for _, d := range decisive {
		at := lastStep(steps, d.purpose)
		if at < 0 {
			continue
		}
		s := steps[at]
		if c := s.Rule.Case; c != rules.NoCase {
			return c, s
		}
		if slices.Contains(drops, d.purpose) {
			return dropCase(steps[:at], d.number), s
		}
		return d.number, s
	}
	return rules.Case9, Step{}
}

// dropCase returns the case of a drop after these steps: that of the rule which led
// there.
func dropCase(steps []Step, number rules.Case) rules.Case {
	for _, s := range slices.Backward(steps) {
		if s.Rule.Case != rules.NoCase {
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
