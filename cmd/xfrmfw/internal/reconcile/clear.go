package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
)

// besideOther reports whether rules of ours stand in the other iptables variant.
func besideOther(ctx context.Context, programs *iptables.Programs) bool {
	if programs == nil {
		return false
	}
	other, err := programs.Other(ctx)
	return err == nil && len(other.Chains) > 0
}

// Clear removes the rules of xfrmfw, or those that accept if keepGuards is true. A daemon
// that runs would put them back, which is an error. It takes the lock.
func Clear(ctx context.Context, g *gateway.Gateway, keepGuards bool) (Outcome, error) {
	if pid, err := g.Dirs().DaemonPID(); err != nil || pid != 0 {
		return Outcome{}, errors.Join(err, fmt.Errorf("clear rules: the daemon, process %d, would put them back: stop it first, e.g. systemctl stop xfrmfw", pid))
	}
	unlock, err := g.Dirs().Lock(ctx, "apply")
	if err != nil {
		return Outcome{}, err
	}
	defer unlock()
	planned := plan.Clear
	if keepGuards {
		planned = plan.ClearButGuards
	}
	var out Outcome
	if g.Programs() != nil {
		if out, err = Until(ctx, g.Programs(), planned); err != nil {
			return out, fmt.Errorf("clear rules: %w", err)
		}
	}
	if keepGuards || g.Engine().Name() == engine.IPTables && besideOther(ctx, g.Programs()) {
		return out, nil // the table accepts nothing, and is both variants' companion
	}
	cleared, decided, err := g.ClearTable()
	if err != nil {
		return out, fmt.Errorf("clear table: %w", err)
	}
	if cleared {
		out.Table.Commits++
		out.TableDecided = decided
	}
	return out, nil
}
