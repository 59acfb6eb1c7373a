package firewall

import "testing"

// TestCaseOf: a rule's own case holds, and a shared drop has that of the rule that led
// to it.
func TestCaseOf(t *testing.T) {
	step := func(purpose Purpose, c Case) TraceStep {
		return TraceStep{Table: Mangle, Chain: ChainPrefix + "X", Rule: Rule{Purpose: purpose, Case: c}}
	}
	for _, tt := range []struct {
		name  string
		steps []TraceStep
		want  Case
		by    Purpose
	}{
		{"no rule", nil, Case9, ""},
		{"nothing decisive", []TraceStep{step(PurposeDispatch, NoCase)}, Case9, ""},
		{"own case", []TraceStep{step(PurposeSpoof, Case6)}, Case6, PurposeSpoof},
		{"without a case the purpose tells", []TraceStep{step(PurposeVerified, NoCase)}, Case1, PurposeVerified},
		{"a shared drop", []TraceStep{step(PurposeLeakGuard, Case8d), step(PurposeLeak, NoCase)}, Case8d, PurposeLeak},
		{"a shared drop, the nearest rule", []TraceStep{step(PurposeVerified, Case1), step(PurposeForeign, Case7b), step(PurposeCrossed, NoCase)}, Case7b, PurposeCrossed},
		{"an accept has no case before it", []TraceStep{step(PurposeLeakGuard, Case8), step(PurposeAcceptOut, NoCase)}, NoCase, PurposeAcceptOut},
		{"a drop is stronger than what was found before", []TraceStep{step(PurposeVerified, Case1), step(PurposeRestricted, NoCase)}, NoCase, PurposeRestricted},
	} {
		if got, by := CaseOf(tt.steps); got != tt.want || by.Rule.Purpose != tt.by {
			t.Errorf("%s: case %q by %q, want %q by %q", tt.name, got, by.Rule.Purpose, tt.want, tt.by)
		}
	}
}
