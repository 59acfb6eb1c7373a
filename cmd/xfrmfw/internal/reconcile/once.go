package reconcile

import (
	"context"
	"fmt"
	"reflect"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// once is the source of a command: it reads the rules for each attempt, and the kernel
// once more after the commit, because a dump is not atomic and a rekey does not wait.
type once struct{ g *gateway.Gateway }

// Once reconciles for a command that reads everything and ends. The caller holds the lock.
func Once(ctx context.Context, g *gateway.Gateway, o Options) (Outcome, error) {
	return Loop(ctx, g, once{g}, o)
}

func (s once) Live(ctx context.Context) (gateway.Live, error) { return s.g.ReadLive(ctx) }

func (once) Confirm(context.Context, gateway.Look) bool { return true }

func (once) Lost() {}

func (s once) Done(ctx context.Context, l gateway.Look) (bool, error) {
	again, err := s.g.Read(ctx, l.Live)
	if err != nil {
		return false, fmt.Errorf("look again after the rules were written: %w", err)
	}
	return reflect.DeepEqual(again.Result.Rulesets, l.Result.Rulesets) && sets.Diff(l.Table, again.Table).Empty(), nil
}
