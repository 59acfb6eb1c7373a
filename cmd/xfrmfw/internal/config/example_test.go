package config

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
)

// TestExample is that the configuration file of the packages changes nothing as
// it stands, is right with all that is commented out, and leaves no word out.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../../../scripts/xfrmfw.yaml")
	if err != nil {
		t.Fatal(err)
	}
	asIs, err := Parse(text, "xfrmfw.yaml")
	if err != nil {
		t.Errorf("as it stands: %v", err)
	}
	if want := Default(); !reflect.DeepEqual(asIs, want) {
		t.Errorf("as it stands it is %+v, want the defaults, %+v", asIs, want)
	}

	enabled := regexp.MustCompile(`(?m)^#([^#\n])`).ReplaceAll(text, []byte("$1"))
	c, err := Parse(enabled, "xfrmfw.yaml")
	if err != nil {
		t.Fatalf("with all that is commented out: %v", err)
	}
	if len(c.Firewall.Tunnels) != 3 || len(c.Firewall.WAN) != 1 || len(c.Firewall.Guard.Pairs) != 1 {
		t.Errorf("with all that is commented out it is %+v", c)
	}
	p := parser{}
	for _, in := range []words{p.topWords(), p.tunnelWords(&firewall.TunnelConfig{}), p.matchWords(&firewall.Match{})} {
		for _, word := range slices.Sorted(maps.Keys(in)) {
			if in[word] == nil {
				continue
			}
			if !regexp.MustCompile(`(?m)^#[^#\n]*\b` + word + `:`).Match(text) {
				t.Errorf("it lacks the word %s", word)
			}
		}
	}
}
