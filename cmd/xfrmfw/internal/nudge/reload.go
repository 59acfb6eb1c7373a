package nudge

import (
	"fmt"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
)

// Reload has a daemon that runs read its configuration, so that it does not put back
// older rules than the caller's. The caller holds the lock, and the daemon looks for the
// request once it has it, because a signal could come too late.
func Reload(dirs rundir.Dirs) error {
	if pid, err := dirs.DaemonPID(); err != nil || pid == 0 {
		return err
	}
	err := dirs.Leave("daemon", ".reload")
	if err == nil {
		var socket string
		if socket, err = dirs.Socket(); err == nil {
			err = Send(socket)
		}
	}
	if err != nil {
		return fmt.Errorf("have the daemon read its configuration: %w: until then it works by the former one: systemctl reload xfrmfw", err)
	}
	return nil
}

// Reloading reports, once, whether Reload was called.
func Reloading(dirs rundir.Dirs) bool { return dirs.Take("daemon", ".reload") == nil }

// WillReload reports whether Reload was called and Reloading was not asked since.
func WillReload(dirs rundir.Dirs) bool { return dirs.Has("daemon", ".reload") }
