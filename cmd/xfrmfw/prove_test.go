package main

import (
	"runtime/debug"
	"testing"
)

// A proof collects its garbage more often than other commands, as long as it runs, and as
// often as the environment says.
func TestProofCollectsOften(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(300))
	for _, test := range []struct {
		environment string
		during      int
	}{{"", 25}, {"200", 300}} {
		t.Setenv("GOGC", test.environment)
		restore := collectOften()
		if percent := debug.SetGCPercent(test.during); percent != test.during {
			t.Errorf("GOGC=%q: a proof collects at %d percent, want %d", test.environment, percent, test.during)
		}
		restore()
		if percent := debug.SetGCPercent(300); percent != 300 {
			t.Errorf("GOGC=%q: the process collects at %d percent behind a proof", test.environment, percent)
		}
	}
}
