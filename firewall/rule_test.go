package firewall_test

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
)

func TestVerbString(t *testing.T) {
	seen := make(map[string]bool)
	for v := firewall.Count; v <= firewall.NFLog; v++ {
		if s := v.String(); s == "" || seen[s] {
			t.Errorf("verb %d is called %q", uint8(v), s)
		} else {
			seen[s] = true
		}
	}
	if s := firewall.Verb(200).String(); s != "verb 200" {
		t.Errorf("an unknown verb is called %q", s)
	}
}
