package nudge

import (
	"errors"
	"fmt"
	"time"

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
		err = wake(dirs)
	}
	if err != nil {
		return fmt.Errorf("have the daemon read its configuration: %w: until then it works by the former one: systemctl reload xfrmfw", err)
	}
	return nil
}

// insistence is how long Reload tries to wake a daemon that does not answer: one on a busy
// machine, or one that has just started and does not listen yet.
const insistence = 5 * time.Second

// wake nudges the daemon until it answers, or has ended.
func wake(dirs rundir.Dirs) error {
	socket, err := dirs.Socket()
	if err != nil {
		return err
	}
	for end := time.Now().Add(insistence); ; time.Sleep(20 * time.Millisecond) {
		err := Send(socket)
		if !errors.Is(err, ErrSilent) && !errors.Is(err, ErrNobody) || time.Now().After(end) {
			return err
		}
		if pid, err := dirs.DaemonPID(); err != nil || pid == 0 {
			return err
		}
	}
}

// Reloading reports, once, whether Reload was called.
func Reloading(dirs rundir.Dirs) bool { return dirs.Take("daemon", ".reload") == nil }

// WillReload reports whether Reload was called and Reloading was not asked since.
func WillReload(dirs rundir.Dirs) bool { return dirs.Has("daemon", ".reload") }
