package reconcile

import (
	"context"
	"fmt"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/prove"
)

// TestsError is the error of an apply by hand with a configuration that fails its own
// tests. Nothing was changed.
type TestsError struct {
	Failed []prove.Outcome
	// Of is the number of all tests.
	Of int
}

// Error names the first tests that fail.
func (e *TestsError) Error() string {
	var list []string
	for _, o := range e.Failed {
		list = append(list, fmt.Sprintf("%q: expect %s, got %s", o.Test.Name, o.Test.Expect, o.Got))
	}
	return fmt.Sprintf("nothing was changed, because %s of %d failed: %s; see xfrmfw test", text.Count(len(e.Failed), "test"), e.Of, text.FirstOf(list))
}

// CheckTests returns a *TestsError if a test of the configuration fails. It reads the
// kernel and the rules only if there are tests.
func CheckTests(ctx context.Context, g *gateway.Gateway) error {
	if len(g.Config().Tests) == 0 {
		return nil
	}
	look, err := g.Look(ctx)
	if err != nil {
		return err
	}
	return testsError(look)
}

func testsError(l gateway.Look) error {
	if failed := l.FailedTests(); len(failed) > 0 {
		return &TestsError{Failed: failed, Of: len(l.Tests)}
	}
	return nil
}
