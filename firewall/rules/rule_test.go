package rules_test

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

func TestVerbString(t *testing.T) {
	seen := make(map[string]bool)
	for v := rules.Count; v <= rules.NFLog; v++ {
		if s := v.String(); s == "" || seen[s] {
			t.Errorf("verb %d is called %q", uint8(v), s)
		} else {
			seen[s] = true
		}
	}
	if s := rules.Verb(200).String(); s != "verb 200" {
		t.Errorf("an unknown verb is called %q", s)
	}
}
