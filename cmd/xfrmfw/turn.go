package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/reconcile"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
)

// turn looks at the kernel once and makes the rules what it asks for. A turn
// that fails is tried again, ever more slowly; the rules are then as the error
// says.
func (d *daemon) turn(ctx context.Context) {
	began := time.Now()
	d.beat.Store(began.UnixNano())
	d.pace.Begin()
	out, err := d.reconcile(ctx)
	ended := time.Now()
	d.tidyAt = ended.Add(quiet)
	if !errors.Is(err, errHeld) {
		d.measure.recorder.Reconciled(ended.Sub(began), err)
	}
	if err != nil {
		d.known.fail()
		d.source.Lost()
		most := heldRetry
		if !errors.Is(err, errHeld) {
			most = min(d.settings.Audit, 10*time.Second)
			if ctx.Err() == nil {
				note(d.o, "daemon", err)
			}
		}
		d.pace.Failed(ended, most)
		d.say(err)
		return
	}
	d.say(nil)
	if d.known.end(out.Look.Snapshot) {
		d.pace.Event(ended)
	}
	note(d.o, "daemon", nil)
	if d.refused != nil {
		note(d.o, "daemon", d.refused)
	}
	d.pace.Done(began, ended)
	wait := max(d.settings.Resync, 500*ended.Sub(began))
	d.resyncAt = ended.Add(wait)
	d.measure.recorder.Waits(wait)
	if out.Steps > 0 {
		d.log.info("%s", out)
	}
	d.warn(slices.Concat(out.Warnings, out.Look.Result.Warnings))
}

// reconcile takes the lock and reconciles from the tracked rules, unless apply --confirm
// waits.
func (d *daemon) reconcile(ctx context.Context) (reconcile.Outcome, error) {
	var out reconcile.Outcome
	unlock, err := lock(ctx, d.o, "apply")
	if err != nil {
		return out, err
	}
	defer unlock()
	// Under the lock: who has something to say to us has written its file by now.
	if mustReload(d.o) {
		d.reload(ctx)
	}
	if waiting(d.o) {
		return out, errHeld
	}
	// Not the daemon's own end: a commit that has begun is not to be killed.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), turnLimit)
	defer cancel()
	return reconcile.Loop(ctx, d.g, tracked{&d.source, &d.known}, reconcile.Options{})
}

// tracked is the tracker, which has notifications kept for later while the kernel is
// read.
type tracked struct {
	*reconcile.Tracked
	known *known
}

func (t tracked) Live(ctx context.Context) (gateway.Live, error) {
	live, err := t.Tracked.Live(ctx)
	t.known.begin()
	return live, err
}

// drift tells what others did to the rules, before it is mended.
func (d *daemon) drift(differences []firewall.Difference) {
	d.measure.recorder.Repaired()
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

// say logs an error that is not the one that was logged last, and when all is
// well again.
func (d *daemon) say(err error) {
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
	case errors.Is(err, errHeld):
		d.log.info("%v: the rules are left as they are", err)
	default:
		d.log.fail("%v; tried again until it works", err)
	}
	d.failed = text
	d.service.status(d.state())
}

// warn logs the warnings that were not there at the last turn.
func (d *daemon) warn(warnings []string) {
	now := make(map[string]bool, len(warnings))
	for _, w := range warnings {
		if !d.warned[w] && !now[w] {
			d.log.warn("%s", w)
		}
		now[w] = true
	}
	d.warned = now
}
