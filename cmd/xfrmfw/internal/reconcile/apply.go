package reconcile

import (
	"context"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/nudge"
)

// ByConfirm names the apply with rules that wait to be confirmed.
const ByConfirm = "apply --confirm"

// ApplyLocked reconciles once for the command named by, and records it. The caller holds
// the lock.
//
// An interactive apply fails if enforce can't be in force, and has the daemon read the
// configuration. The hook applies without enforce: it has no user to tell, and current
// rules matter more. An apply by hand fails if a test of the configuration fails. Unless
// they wait to be confirmed, rules that are in force approve their configuration.
func ApplyLocked(ctx context.Context, g *gateway.Gateway, by string, interactive bool) (Outcome, error) {
	dirs := g.Dirs()
	out, err := Once(ctx, g, Options{RequireEnforce: interactive, RequireTests: g.ByHand()})
	dirs.Note(by, err)
	if err != nil {
		return out, err
	}
	if by != ByConfirm {
		if err := g.Approve(); err != nil {
			out.warn([]string{err.Error()})
		}
	}
	if !interactive {
		return out, nil
	}
	if pid, _ := dirs.DaemonPID(); out.Look.Config.Enforce && pid == 0 {
		out.warn([]string{"cross_check: enforce needs the daemon, which leaves it when a module is loaded that keeps packets from being tagged; without one, these are dropped from then on"})
	}
	if err := nudge.Reload(dirs); err != nil {
		out.warn([]string{err.Error()})
	}
	return out, nil
}
