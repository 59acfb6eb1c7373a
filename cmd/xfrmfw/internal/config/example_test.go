package config

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/test/manual"
)

// TestExample is that the configuration file of the packages changes nothing as
// it stands, is right with all that is commented out, and leaves no word out.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../../../scripts/dist/xfrmfw.yaml")
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
	page := manual.Page(t, "xfrmfw.yaml.5")
	p := parser{}
	for _, in := range []words{p.topWords(), p.tunnelWords(&firewall.TunnelConfig{}), p.matchWords(&firewall.Match{})} {
		for _, word := range slices.Sorted(maps.Keys(in)) {
			if in[word] == nil {
				continue
			}
			if !regexp.MustCompile(`(?m)^#[^#\n]*\b` + word + `:`).Match(text) {
				t.Errorf("it lacks the word %s", word)
			}
			if !regexp.MustCompile(`(?m)^### .*\b` + word + `\b|^- .` + word + `.,`).MatchString(page) {
				t.Errorf("xfrmfw.yaml(5) lacks the word %s", word)
			}
		}
	}
}

// TestManual is that the configurations in README.md and the manual are right, those of the recipes and those between ```,
// and that the mistakes of the one that is wrong are those that the manual shows.
func TestManual(t *testing.T) {
	text := manual.Text(t)
	found := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(text, -1)
	recipes := regexp.MustCompile("(?s)cat >/etc/xfrmfw/xfrmfw.yaml <<'EOF'\n(.*?)\n    EOF\n").FindAllStringSubmatch(text, -1)
	if len(found) < 2 || len(recipes) < 2 {
		t.Fatalf("%d and %d configurations", len(found), len(recipes))
	}
	for _, words := range append(found, recipes...) {
		c, err := Parse([]byte(words[1]), "README.md")
		if err != nil {
			t.Errorf("%v:\n%s", err, words[1])
		}
		if reflect.DeepEqual(c, Default()) {
			t.Errorf("says nothing:\n%s", words[1])
		}
	}

	wrong := regexp.MustCompile("(?s)\n# cat bad.yaml\n(.*?)# xfrmfw apply --config bad.yaml\n(.*?)```").FindAllStringSubmatch(text, -1)
	if len(wrong) != 1 {
		t.Fatalf("%d configurations with mistakes, want 1", len(wrong))
	}
	_, err := Parse([]byte(wrong[0][1]), "bad.yaml") // the command adds the last line
	if err == nil {
		t.Fatalf("no mistake in\n%s", wrong[0][1])
	}
	if got := "xfrmfw: " + strings.ReplaceAll(err.Error(), "\n", "\nxfrmfw: ") + "\nxfrmfw: nothing was changed\n"; got != wrong[0][2] {
		t.Errorf("the mistakes are\n%sand the manual has\n%s", got, wrong[0][2])
	}
}
