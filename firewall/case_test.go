package firewall

import "testing"

func TestCaseString(t *testing.T) {
	if len(caseNames) != int(Case9)+1 || Case6b.String() != "6b" || Case9.String() != "9" || NoCase.String() != "" || Case(200).String() != "" {
		t.Errorf("names of cases: %q", caseNames)
	}
}
