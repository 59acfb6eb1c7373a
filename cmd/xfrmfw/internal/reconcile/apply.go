package reconcile

import (
	"context"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/nudge"
)

// Apply reconciles once for the command named by, and records it. It takes the lock; a
// context that is done ends it with the former rules in force.
//
// An interactive apply fails if enforce can't be in force, and has the daemon read the
// configuration. The hook applies without enforce: it has no user to tell, and current
// rules matter more.
func Apply(ctx context.Context, g *gateway.Gateway, by string, interactive bool) (Outcome, error) {
	unlock, err := g.Dirs().Lock(ctx, "apply")
	if err != nil {
		return Outcome{}, err
	}
	defer unlock()
	return ApplyLocked(ctx, g, by, interactive)
}

// ApplyLocked is Apply under a lock that the caller holds.
func ApplyLocked(ctx context.Context, g *gateway.Gateway, by string, interactive bool) (Outcome, error) {
	dirs := g.Dirs()
	out, err := Once(ctx, g, Options{RequireEnforce: interactive})
	dirs.Note(by, err)
	if err != nil || !interactive {
		return out, err
	}
	if pid, _ := dirs.DaemonPID(); out.Look.Config.Enforce && pid == 0 {
		out.warn([]string{"cross_check: enforce needs the daemon, which leaves it when a module is loaded that keeps packets from being tagged; without one, these are dropped from then on"})
	}
	if err := nudge.Reload(dirs); err != nil {
		out.warn([]string{err.Error()})
	}
	return out, nil
}
