package lab

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStages(t *testing.T) {
	want := map[string]string{
		"e2e-6.12-nft":        "[true true false true false]",
		"e2e-uml-legacy":      "[true false true true false]",
		"e2e-6.12-legacy":     "[false false false true false]",
		"e2e-6.1-nft":         "[false false false true false]",
		"ike-6.12-nft":        "[true true false true false]",
		"ike-uml-legacy":      "[true false true true false]",
		"operator-6.1-nft":    "[true true false true false]",
		"operator-uml-legacy": "[false false true false false]",
		"packages":            "[true true false true false]",
	}
	got := make(map[string]string)
	for stage := range want {
		var has []bool
		for _, s := range []Stages{Both, Newest, Oldest, All, Soak} {
			has = append(has, s.has(stage))
		}
		got[stage] = fmt.Sprint(has)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a stage runs other labels (-want +got):\n%s", diff)
	}
}

// A label is decided once, for the test and its subtests: Require, which gives Both to a test without one, then finds
// no stage any more.
func TestRunIn(t *testing.T) {
	tests := []struct {
		stage string
		first Stages
		want  string
	}{
		{"", Soak, ""},
		{"e2e-6.12-nft", Soak, "left to scripts/soak: TestX"},
		{"e2e-6.12-nft", Oldest, "left out of e2e-6.12-nft: TestX"},
		{"e2e-6.12-nft", Newest, ""},
		{"e2e-6.1-nft", Both, "left out of e2e-6.1-nft: TestX"},
		{"e2e-6.1-nft", All, ""},
	}
	for _, test := range tests {
		t.Setenv("XFRMFW_STAGE", test.stage)
		var r recorder
		RunIn(&r, test.first)
		if r.skipped == "" {
			t.Setenv("XFRMFW_STAGE", r.stage)
			RunIn(&r, Both)
		}
		if r.skipped != test.want {
			t.Errorf("stage %q, label %d: %q, want %q", test.stage, test.first, r.skipped, test.want)
		}
	}
}

// recorder is a test that is told to skip and to set a variable. A real one would be left out for good.
type recorder struct {
	testing.TB
	skipped, stage string
}

func (r *recorder) Helper()                       {}
func (r *recorder) Name() string                  { return "TestX" }
func (r *recorder) Setenv(_, value string)        { r.stage = value }
func (r *recorder) Skipf(format string, a ...any) { r.skipped = fmt.Sprintf(format, a...) }
