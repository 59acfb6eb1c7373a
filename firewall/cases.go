package firewall

import "slices"

// decisive are the purposes that name a packet's case, the strongest first: a
// drop tells more than the classification before it, and that more than an
// accept. The case is that of a rule that has none of its own.
var decisive = [...]struct {
	purpose Purpose
	number  Case
}{
	{PurposeSpoof, Case6}, {PurposeInject, Case6b}, {PurposeCrossed, Case7}, {PurposeLeak, Case8}, {PurposeReject, Case8},
	{PurposeRestricted, NoCase}, {PurposeLockdown, NoCase},
	{PurposeVerified, Case1}, {PurposeRelated, Case1b}, {PurposeIPComp, Case1c}, {PurposePolicyOnly, Case2},
	{PurposeUnconfirmed, Case3}, {PurposeOverlay, Case4},
	{PurposeStranger, Case8e}, {PurposeUnknown, Case7b},
	{PurposeAcceptIn, NoCase}, {PurposeAcceptOut, NoCase}, {PurposeOpen, NoCase}, {PurposeService, NoCase},
	{PurposeStray, Case5},
}

// drops are the purposes of drops that several cases share.
var drops = []Purpose{PurposeSpoof, PurposeInject, PurposeCrossed, PurposeLeak, PurposeReject}

// CaseOf returns the case of a packet that matched these rules in this order, and
// the rule that decided. A packet that matched no decisive rule is of case 9.
//
// A rule's own case holds. A drop that several cases share has none: there the last
// rule with a case before it holds, which led to the drop.
func CaseOf(steps []TraceStep) (Case, TraceStep) {
	for _, d := range decisive {
		at := lastStep(steps, d.purpose)
		if at < 0 {
			continue
		}
		s := steps[at]
		if c := s.Rule.Case; c != NoCase {
			return c, s
		}
		if slices.Contains(drops, d.purpose) {
			return dropCase(steps[:at], d.number), s
		}
		return d.number, s
	}
	return Case9, TraceStep{}
}

// dropCase returns the case of a drop after these steps: that of the rule which led
// there.
func dropCase(steps []TraceStep, number Case) Case {
	for _, s := range slices.Backward(steps) {
		if s.Rule.Case != NoCase {
			return s.Rule.Case
		}
	}
	return number
}

// lastStep returns the place of the last step with one of the purposes, -1 if there is
// none.
func lastStep(steps []TraceStep, purposes ...Purpose) int {
	for i, s := range slices.Backward(steps) {
		if slices.Contains(purposes, s.Rule.Purpose) {
			return i
		}
	}
	return -1
}

// Last returns the last step with one of the purposes, and whether there is one.
func Last(steps []TraceStep, purposes ...Purpose) (TraceStep, bool) {
	if i := lastStep(steps, purposes...); i >= 0 {
		return steps[i], true
	}
	return TraceStep{}, false
}
