package metrics

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/test/manual"
)

// TestManual is that xfrmfw-operate(7) has the name of each metric that this package serves, and no other.
func TestManual(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, words := range regexp.MustCompile(`"(xfrmfw_[a-z_]+[a-z])"`).FindAllStringSubmatch(string(text), -1) {
			served[words[1]] = true
		}
	}
	if len(served) < 20 {
		t.Fatalf("%d metrics in the source: their names are written otherwise", len(served))
	}
	told := map[string]bool{}
	for _, words := range regexp.MustCompile("`(xfrmfw_[a-z_]+)`").FindAllStringSubmatch(manual.Page(t, "xfrmfw-operate.7"), -1) {
		told[words[1]] = true
	}
	if diff := cmp.Diff(served, told); diff != "" {
		t.Errorf("-served +told in xfrmfw-operate(7):\n%s", diff)
	}
}

// TestCasesAreServed is that xfrmfw-operate(7) has the cases of dropped packets that are served, and the shipped alerts and
// dashboard ask for no other.
func TestCasesAreServed(t *testing.T) {
	t.Parallel()
	of := NewTunnels(still(State{}), 1)
	run(t, of)
	_, families := scrape(t, NewRecorder(), of)
	var served []string
	for _, m := range families["xfrmfw_dropped_packets_total"].GetMetric() {
		for _, l := range m.GetLabel() {
			served = append(served, l.GetValue())
		}
	}
	slices.Sort(served)
	row := regexp.MustCompile("(?s)- `xfrmfw_dropped_packets_total`.*?by `case`:(.*?)\\.\n").FindStringSubmatch(manual.Page(t, "xfrmfw-operate.7"))
	if row == nil {
		t.Fatal("xfrmfw-operate(7) names no cases")
	}
	var told []string
	for _, words := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
		told = append(told, words[1])
	}
	slices.Sort(told)
	if diff := cmp.Diff(served, told); diff != "" {
		t.Errorf("-served +told in xfrmfw-operate(7):\n%s", diff)
	}
	for _, name := range []string{"alerts.yaml", "grafana.json"} {
		text, err := os.ReadFile(filepath.Join(shipped, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, words := range regexp.MustCompile(`xfrmfw_dropped_[a-z]+_total\{case=~?\\?"([a-z_|]+)`).FindAllStringSubmatch(string(text), -1) {
			for _, word := range strings.Split(words[1], "|") {
				if !slices.Contains(served, word) {
					t.Errorf("%s asks for the case %s", name, word)
				}
			}
		}
	}
}
