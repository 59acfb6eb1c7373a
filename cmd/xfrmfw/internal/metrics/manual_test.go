package metrics

import (
	"os"
	"path/filepath"
	"regexp"
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
