package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/nudge"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
)

// presence makes a process the daemon of its network namespace: the lock
// that keeps a second one away, and the socket that hooks reach it by. Both are
// files of the run directory, which a cleaner may empty at any time.
type presence struct {
	dirs   rundir.Dirs
	lock   *rundir.Lock
	nudges *nudge.Listener
	files  *rundir.Watcher
}

// take makes this process the daemon. The error is of a daemon that runs already,
// or of the run directory.
func (p *presence) take(ctx context.Context) error {
	lock, err := p.dirs.LockDaemon(ctx)
	if err != nil {
		return err
	}
	p.lock = lock
	return p.listen()
}

// listen makes the socket, and watches the directory around it.
func (p *presence) listen() error {
	path, err := p.dirs.Socket()
	if err != nil {
		return err
	}
	if p.nudges, err = nudge.Listen(path); err != nil {
		return err
	}
	d, err := rundir.Open(p.dirs.Run)
	if err != nil {
		return err
	}
	defer d.Close()
	// Without a watch the files are looked at with each audit.
	p.files.Close()
	p.files, _ = d.Watch()
	return nil
}

// errReplaced means that a second daemon took the place of this one.
var errReplaced = errors.New("the run directory was emptied and another daemon has started since")

// renew makes removed files again, and reports whether there was any. The error
// is errReplaced where another daemon was quicker.
func (p *presence) renew(ctx context.Context) (renewed bool, err error) {
	if !p.lock.Stands() {
		lock, err := p.dirs.LockDaemon(ctx)
		if err != nil {
			if pid, _ := p.dirs.DaemonPID(); pid != 0 {
				return true, errReplaced
			}
			return true, fmt.Errorf("make the files of the run directory again: %w", err)
		}
		p.lock.Release()
		p.lock, renewed = lock, true
	}
	if p.nudges != nil && p.nudges.Stands() {
		return renewed, nil
	}
	if p.nudges != nil {
		_ = p.nudges.Close()
		p.nudges = nil
	}
	if err := p.listen(); err != nil {
		return true, fmt.Errorf("make the files of the run directory again: %w", err)
	}
	return true, nil
}

// C gives a value when there were nudges.
func (p *presence) C() <-chan struct{} {
	if p.nudges == nil {
		return nil
	}
	return p.nudges.C()
}

// refused counts the nudges of users without the right.
func (p *presence) refused() uint64 {
	if p.nudges == nil {
		return 0
	}
	return p.nudges.Refused()
}

func (p *presence) release() {
	p.files.Close()
	if p.nudges != nil {
		_ = p.nudges.Close()
	}
	if p.lock != nil {
		p.lock.Release()
	}
}
