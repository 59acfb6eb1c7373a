package trace

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// TestCaseOf: a rule's own case holds, and a shared drop has that of the rule that led
// to it.
func TestCaseOf(t *testing.T) {
	step := func(purpose rules.Purpose, c firewall.Case) Step {
		return Step{Table: rules.Mangle, Chain: rules.ChainPrefix + "X", Rule: rules.Rule{Purpose: purpose, Case: c}}
	}
	for _, tt := range []struct {
		name  string
		steps []Step
		want  firewall.Case
		by    rules.Purpose
	}{
		{"no rule", nil, firewall.Case9, ""},
		{"nothing decisive", []Step{step(rules.PurposeDispatch, firewall.NoCase)}, firewall.Case9, ""},
		{"own case", []Step{step(rules.PurposeSpoof, firewall.Case6)}, firewall.Case6, rules.PurposeSpoof},
		{"without a case the purpose tells", []Step{step(rules.PurposeVerified, firewall.NoCase)}, firewall.Case1, rules.PurposeVerified},
		{"a shared drop", []Step{step(rules.PurposeLeakGuard, firewall.Case8d), step(rules.PurposeLeak, firewall.NoCase)}, firewall.Case8d, rules.PurposeLeak},
		{"a shared drop, the nearest rule", []Step{step(rules.PurposeVerified, firewall.Case1), step(rules.PurposeForeign, firewall.Case7b), step(rules.PurposeCrossed, firewall.NoCase)}, firewall.Case7b, rules.PurposeCrossed},
		{"an accept has no case before it", []Step{step(rules.PurposeLeakGuard, firewall.Case8), step(rules.PurposeAcceptOut, firewall.NoCase)}, firewall.NoCase, rules.PurposeAcceptOut},
		{"a drop is stronger than what was found before", []Step{step(rules.PurposeVerified, firewall.Case1), step(rules.PurposeRestricted, firewall.NoCase)}, firewall.NoCase, rules.PurposeRestricted},
	} {
		if got, by := CaseOf(tt.steps); got != tt.want || by.Rule.Purpose != tt.by {
			t.Errorf("%s: case %q by %q, want %q by %q", tt.name, got, by.Rule.Purpose, tt.want, tt.by)
		}
	}
}
