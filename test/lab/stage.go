package lab

import (
	"os"
	"strings"
	"testing"
)

// Stages says in which stages of scripts/test a test runs. A stage is named WHAT-KERNEL-VARIANT, where a release of Debian
// stands for its own kernel, and scripts/test says in XFRMFW_STAGE which one it is; without a stage, as in scripts/soak or
// by hand, every test runs.
type Stages uint8

const (
	// Both is the newest kernel with iptables-nft and the oldest with iptables-legacy: for tests in which kernel or
	// variant has a part. It is the label of a test that has none.
	Both Stages = iota
	// Newest and Oldest are one of the two, for tests in which kernel and variant have little part. Put a new test into
	// Oldest where it can be: that one is user-mode Linux, which takes a third of the time, but has no xfrm interfaces.
	Newest
	Oldest
	// All is Both, the two pairs that few people have, and other releases.
	All
	// Soak is none of them: a campaign of scripts/soak runs the test, because it takes long or shows the lab itself.
	Soak
)

// The kernels and variants of Newest and Oldest.
const (
	newest = "6.12-nft"
	oldest = "uml-legacy"
)

// RunIn labels a test: in other stages it ends here, and scripts/test makes sure that another stage runs it. It comes
// first in the test, and holds for the subtests. Stages of test/e2e and test/ike are of each label; elsewhere a test runs
// in user-mode Linux if its label is Oldest, and in the other stage otherwise.
func RunIn(t testing.TB, stages Stages) {
	t.Helper()
	stage := os.Getenv("XFRMFW_STAGE")
	switch {
	case stage == "":
	case stages == Soak:
		t.Skipf("left to scripts/soak: %s", t.Name())
	case !stages.has(stage):
		t.Skipf("left out of %s: %s", stage, t.Name())
	default:
		t.Setenv("XFRMFW_STAGE", "") // it is decided, so Require labels nothing
	}
}

func (s Stages) has(stage string) bool {
	tests, machine, _ := strings.Cut(stage, "-")
	switch {
	case tests == "engine": // scripts/test names its tests
		return s != Soak
	case tests != "e2e" && tests != "ike":
		return s != Soak && (s == Oldest) == (machine == oldest)
	case machine == newest:
		return s == Both || s == Newest || s == All
	case machine == oldest:
		return s == Both || s == Oldest || s == All
	}
	return s == All
}
