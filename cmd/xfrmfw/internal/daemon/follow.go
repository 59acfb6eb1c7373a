package daemon

import (
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/nudge"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/pending"
)

// follow handles a change of states or policies. The content of the kernel's notifications
// is put in force at once where it can be. Then a look is due, soon where it can't.
func (d *daemon) follow() {
	if d.ahead() {
		d.pace.Handled(time.Now())
		return
	}
	d.pace.Event(time.Now())
}

// ahead puts the content of the notifications in force, and reports whether that is all of it.
// Where the rules are not to be touched, or another command works on them, nothing is done.
func (d *daemon) ahead() bool {
	if d.failed != "" {
		return false
	}
	dirs := d.options.Gateway.Dirs
	lock, err := dirs.TryLock("apply")
	if err != nil {
		return false
	}
	defer lock.Release()
	if nudge.WillReload(dirs) || pending.Look(dirs).Pending {
		return false
	}
	_, ok := d.step()
	return ok
}

// step puts the content of the notifications in force under the lock. Changed and ok are
// those of gateway.Ahead.
func (d *daemon) step() (changed, ok bool) {
	notes, ok := d.filter.take()
	// Counted after taking, because a loss leaves a gap before the notes that follow it.
	if lost := d.states.counts().Lost; lost != d.lost {
		d.lost = lost
		d.filter.lose()
		return false, false
	}
	if !ok || len(notes) == 0 {
		return false, ok
	}
	return d.gateway.Ahead(notes)
}

// beside does a part of a look that takes long, and takes steps meanwhile. It reports whether
// one changed the table. Notifications that need more than a step are left to the filter, which
// has them judged by the look.
func (d *daemon) beside(work func()) (changed bool) {
	if !d.gateway.Engine().TableDecides() {
		work()
		return false
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		work()
	}()
	for {
		select {
		case <-done:
			return changed
		case <-d.states.C():
			one, _ := d.step()
			changed = changed || one
		}
	}
}
