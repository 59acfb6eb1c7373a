package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
)

// cheap is up to when the live rules are read before a commit although what
// stands is known, where the kernel doesn't tell counters by themselves: a chain
// that is rewritten then carries on counters of this moment, not of the last audit.
const cheap = 50 * time.Millisecond

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
		d.g.tracker.Forget()
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
	if d.known.end(out.wanted.snapshot) {
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
	if out.steps > 0 {
		d.log.info("%s", summary(out))
	}
	d.warn(append(d.g.warnings, out.wanted.result.Warnings...))
}

// reconcile is the gateway's, but from what is known to stand, and without the
// second look: whatever changes meanwhile is told, and makes another turn.
func (d *daemon) reconcile(ctx context.Context) (outcome, error) {
	var out outcome
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
	d.g.warnings = nil
	var last error
	for range attempts {
		read := !d.g.tracker.Known()
		if read {
			if err := d.read(ctx); err != nil {
				return out, err
			}
		}
		if err := d.g.recall(); err != nil {
			return out, err
		}
		d.known.begin()
		w, change, err := d.g.plan(ctx)
		if err != nil {
			return out, err
		}
		if !change.Empty() && !read && d.g.recount(ctx, change) != nil && d.readCost < cheap {
			d.g.tracker.Forget()
			continue
		}
		out.wanted = w
		if !change.Empty() {
			if read && change.Drift {
				d.drift(change.Differences)
			}
			var again bool
			if again, last = d.g.commit(ctx, w, change); again {
				d.g.tracker.Forget()
				continue
			}
			if last != nil {
				return out, last
			}
			out.add(change)
		}
		// After an error the live rules are read at the next turn.
		_ = d.g.tracker.Applied(change)
		d.g.live = d.g.tracker.Others()
		d.g.remember(w)
		d.g.sweep(w.peers)
		return out, nil
	}
	return out, fmt.Errorf("another program keeps changing the rules: %w", last)
}

// read reads the live rules.
func (d *daemon) read(ctx context.Context) error {
	began := time.Now()
	have, err := d.g.have(ctx)
	if err != nil {
		return err
	}
	d.g.tracker.Observed(have)
	d.readAt, d.readCost = began, time.Since(began)
	return nil
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
