package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/confirm"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/nudge"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/pending"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/reconcile"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/limit"
	"github.com/xfrmfw/xfrmfw/xfrm/follow"
)

// reconcileOnce looks at the kernel and makes the rules those that it asks for. A failure
// is tried again, ever more slowly; the rules are then as the error says.
func (d *daemon) reconcileOnce(ctx context.Context) {
	began := time.Now()
	d.heartbeat.beat()
	d.pace.Begin()
	out, err := d.reconcile(ctx)
	d.flows.forget(ctx, out.TakeNewPairs(), d.log)
	ended := time.Now()
	d.releaseAt = ended.Add(memoryReleaseDelay)
	if !errors.Is(err, errAwaitingConfirm) {
		d.metrics.recorder.Reconciled(ended.Sub(began), err)
	}
	if err != nil {
		d.filter.fail()
		d.source.Lost()
		most := confirmRetry
		if !errors.Is(err, errAwaitingConfirm) {
			most = min(d.settings.Audit, 10*time.Second)
			if ctx.Err() == nil {
				d.options.Gateway.Note("daemon", err)
			}
		}
		d.pace.Failed(ended, most)
		d.logChange(err)
		return
	}
	d.logChange(nil)
	changed := d.filter.end(d.index)
	d.index = nil
	d.options.Gateway.Note("daemon", nil)
	if d.refused != nil {
		d.options.Gateway.Note("daemon", d.refused)
	}
	d.pace.Done(began, ended)
	if changed {
		d.follow()
	}
	wait := max(d.settings.Resync, 500*ended.Sub(began))
	d.resyncAt = ended.Add(wait)
	d.metrics.recorder.Waits(wait)
	if out.Changed() {
		d.log.info("%s", out)
	}
	d.warn(slices.Concat(out.Warnings, out.Look.Result.Warnings))
}

// reconcile takes the lock and reconciles from the tracked rules, unless apply --confirm
// waits.
func (d *daemon) reconcile(ctx context.Context) (reconcile.Outcome, error) {
	var out reconcile.Outcome
	unlock, err := d.options.Gateway.Lock(ctx, "apply")
	if err != nil {
		return out, err
	}
	defer unlock()
	// Checked under the lock, because a command writes the file before it releases the lock.
	if nudge.Reloading(d.options.Gateway.Dirs) {
		d.reload(ctx)
	}
	// One that was in force before this process was known as the daemon.
	if !d.current && d.gateway.Outdated() {
		d.reread(ctx)
	}
	d.current = true
	if pending.Look(d.options.Gateway.Dirs).Pending {
		d.source.Lost()
	}
	switch err := confirm.Settle(ctx, d.options.Gateway); {
	case errors.Is(err, confirm.ErrPending):
		return out, errAwaitingConfirm
	case err != nil:
		return out, err
	}
	// The end of the daemon does not end a commit that has begun.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), turnLimit)
	defer cancel()
	out, err = reconcile.Loop(ctx, d.gateway, tracked{&d.source, d}, reconcile.Options{Beside: d.beside})
	if err == nil && !d.approved {
		d.approved = d.gateway.Approve() == nil
	}
	return out, err
}

// tracked is the source of live rules. The kernel is read next: it has all that happened
// until then, and the filter keeps later notifications.
type tracked struct {
	*reconcile.Tracked
	daemon *daemon
}

func (t tracked) Live(ctx context.Context) (gateway.Live, error) {
	live, err := t.Tracked.Live(ctx)
	t.daemon.pace.Begin()
	t.daemon.filter.begin()
	return live, err
}

// Done makes the look the one that steps go on from. From here to the end of the look none is
// taken, because the filter then returns the notifications that the look may lack.
func (t tracked) Done(ctx context.Context, l gateway.Look) (bool, error) {
	t.daemon.index = follow.NewIndex(l.Snapshot)
	return t.Tracked.Done(ctx, l)
}

// drift logs the changes that others made to the rules, before they are repaired.
func (d *daemon) drift(differences []string) {
	d.metrics.recorder.Repaired()
	const most = 5
	d.log.warn("others changed the rules, which is mended: %s", text.Count(len(differences), "difference"))
	for i, difference := range differences {
		if i == most {
			d.log.warn("and %d more", len(differences)-most)
			return
		}
		d.log.warn("%s", difference)
	}
}

// logChange logs an error unless it was logged last, and the end of an error.
func (d *daemon) logChange(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == d.failed {
		return
	}
	switch {
	case text == "":
		d.log.info("all is well again")
	case errors.Is(err, errAwaitingConfirm):
		d.log.info("%v: the rules are left as they are", err)
	default:
		d.log.fail("%v; tried again until it works", err)
	}
	d.failed = text
	d.service.status(d.state())
}

// warn logs the warnings that were not there at the last turn. Warnings of a limit
// that only count more are the same.
func (d *daemon) warn(warnings []string) {
	now := make(map[string]bool, len(warnings))
	for _, w := range warnings {
		key := limit.Subject(w)
		if !d.warned[key] && !now[key] {
			d.log.warn("%s", w)
		}
		now[key] = true
	}
	d.warned = now
}
