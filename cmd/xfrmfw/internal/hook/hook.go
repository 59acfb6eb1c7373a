// Package hook does the work of the updown hook: it records the peer, and nudges the
// daemon or has a background process apply. Nothing from the hook's environment becomes
// part of a rule. It never fails a tunnel: errors go to syslog.
package hook

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/config"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/confirm"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/nudge"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/peers"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/worker"
)

// Run records the peer that the environment names and nudges the daemon. If the daemon
// does not take the nudge, a worker applies: the lock keeps the two apart.
func Run(o gateway.Options, environ []string) error {
	kind, recorded := recordPeer(o.Dirs, environ)
	socket, err := o.Socket()
	if err != nil {
		return errors.Join(recorded, err)
	}
	nudged := nudge.Send(socket)
	if nudged == nil {
		return recorded
	}
	if errors.Is(nudged, nudge.ErrNobody) {
		nudged = nil
	}
	return errors.Join(recorded, nudged, requestApply(o, kind == peers.Down))
}

// recordPeer keeps the IKE daemon's words about the peer, for later looks at the tunnels,
// and returns the kind of the event.
func recordPeer(dirs rundir.Dirs, environ []string) (peers.Kind, error) {
	event, err := peers.FromEnviron(environ)
	if err != nil || event.Kind == peers.Other {
		return event.Kind, err
	}
	dir, err := dirs.Peers()
	if err != nil {
		return event.Kind, err
	}
	store := peers.In(dir)
	if event.Kind == peers.Up {
		return event.Kind, store.Put(event.Record)
	}
	return event.Kind, store.Down(event.Record)
}

// The file that requests an apply. While a worker works on a request it is there with the
// other suffix, so that the request of a worker that is killed is still known.
const requestName, requestSuffix, takenSuffix = "hook", ".pending", ".taken"

// The IKE daemon removes the states and policies of a tunnel that goes down only after the
// hook returned, and may be slow at it. So after a request with downSuffix the worker
// applies again when these times have passed.
const downSuffix = ".down"

func lateLooks() []time.Duration { return []time.Duration{2 * time.Second, 10 * time.Second} }

// The lock of the worker that applies, and that of the one that waits for it.
const workLock, standbyLock = "hook", "hook-standby"

// requestApply leaves a request, and starts a worker for it. With one that applies and
// one that waits for it there are enough: either sees the request.
func requestApply(o gateway.Options, down bool) error {
	if down {
		if err := o.Leave(requestName, downSuffix); err != nil {
			return err
		}
	}
	if err := o.Leave(requestName, requestSuffix); err != nil {
		return err
	}
	if o.Locked(workLock) && o.Locked(standbyLock) {
		return nil
	}
	return worker.Start("hook", o)
}

// Work applies until no request is left. Only one worker applies. It looks for a request
// once more after it released the lock, to catch one that was made in between. Errors go
// to syslog.
func Work(ctx context.Context, o gateway.Options) {
	for {
		lock, err := takeTurn(ctx, o)
		if errors.Is(err, rundir.ErrLocked) {
			return
		}
		if err != nil {
			worker.Log("hook", err)
			return
		}
		applyUntilIdle(ctx, o)
		lock.Release()
		if !o.Has(requestName, requestSuffix) || ctx.Err() != nil {
			return
		}
	}
}

// takeTurn takes the lock of the worker that applies. While another worker has it, one
// waits, because the kernel may kill that other one for want of memory when many hooks
// run at once. The error is rundir.ErrLocked if one waits already.
func takeTurn(ctx context.Context, o gateway.Options) (*rundir.Lock, error) {
	lock, err := o.TryLock(workLock)
	if !errors.Is(err, rundir.ErrLocked) {
		return lock, err
	}
	standby, err := o.TryLock(standbyLock)
	if err != nil {
		return nil, err
	}
	defer standby.Release()
	for {
		lock, err := o.TryLock(workLock)
		if !errors.Is(err, rundir.ErrLocked) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// applyUntilIdle applies until no request is left, and for some ten minutes more if that
// fails. The IKE daemon may be stopping, and its service manager ends all that it started:
// one apply is then finished, because it is about tunnels that went.
func applyUntilIdle(ctx context.Context, o gateway.Options) {
	again := o.Has(requestName, takenSuffix) // a worker was killed
	defer func() { _ = o.Take(requestName, takenSuffix) }()
	var late []time.Duration
	for failures := 0; ; {
		err := o.Leave(requestName, takenSuffix)
		if err == nil {
			err = o.Take(requestName, requestSuffix)
		}
		if errors.Is(err, fs.ErrNotExist) {
			if !again {
				if o.Take(requestName, downSuffix) == nil {
					late = lateLooks()
				}
				if len(late) == 0 {
					return
				}
				waitForRequest(ctx, o.Dirs, late[0])
				if ctx.Err() != nil {
					return
				}
				late = late[1:]
			}
			err = nil
		}
		if err == nil {
			err = apply(context.WithoutCancel(ctx), o)
		}
		again = err != nil
		switch {
		case err == nil:
			failures = 0
			continue
		case errors.Is(err, confirm.ErrPending):
			// The rules of an apply --confirm are on trial: they are not touched meanwhile.
			select {
			case <-ctx.Done():
				_ = o.Leave(requestName, requestSuffix)
				return
			case <-time.After(time.Second):
				continue
			}
		}
		worker.Log("hook", err)
		o.Note("hook", err)
		// A configuration error is not retried: only an edit fixes it, and the editor runs
		// apply.
		var bad *config.Error
		if errors.As(err, &bad) || failures == maxFailures {
			return
		}
		waitForRequest(ctx, o.Dirs, retryDelay(failures))
		failures++
	}
}

const maxFailures = 15

// retryDelay is the time from a failed apply to the next: 1 s, 2 s, 4 s and so on, at most
// a minute.
func retryDelay(failures int) time.Duration {
	return min(time.Second<<failures, time.Minute)
}

// apply applies once. A failing test of the configuration is a warning in syslog.
func apply(ctx context.Context, o gateway.Options) error {
	g, err := gateway.Open(ctx, o)
	if err != nil {
		return err
	}
	out, err := confirm.Reconcile(ctx, g, "hook", false)
	if lines := out.Look.TestWarnings(); err == nil && len(lines) > 0 {
		worker.Log("hook", errors.New(text.FirstOf(lines)))
	}
	return err
}

// waitForRequest waits for a while, or until there is a request or the context ends.
func waitForRequest(ctx context.Context, dirs rundir.Dirs, limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(limit, 200*time.Millisecond)):
		}
		if dirs.Has(requestName, requestSuffix) {
			return
		}
	}
}
