// Package hook does the work of the updown hook: it records the peer, and nudges the
// daemon or has a background process apply. Nothing from the hook's environment becomes
// part of a rule.
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
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/worker"
)

// Run records the peer that the environment names and nudges the daemon. If the daemon
// does not take the nudge, a worker applies: the lock keeps the two apart.
func Run(o gateway.Options, environ []string) error {
	recorded := recordPeer(o.Dirs, environ)
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
	return errors.Join(recorded, nudged, requestApply(o))
}

// recordPeer keeps the IKE daemon's words about the peer, for later looks at the tunnels.
func recordPeer(dirs rundir.Dirs, environ []string) error {
	event, err := peers.FromEnviron(environ)
	if err != nil || event.Kind == peers.Other {
		return err
	}
	dir, err := dirs.Peers()
	if err != nil {
		return err
	}
	store := peers.In(dir)
	if event.Kind == peers.Up {
		return store.Put(event.Record)
	}
	return store.Down(event.Record)
}

// The file that requests an apply.
const requestName, requestSuffix = "hook", ".pending"

// requestApply leaves a request, and starts a worker for it.
func requestApply(o gateway.Options) error {
	if err := o.Leave(requestName, requestSuffix); err != nil {
		return err
	}
	return worker.Start("hook", o)
}

// Work applies until no request is left. Only one worker runs; the others exit, because
// the running one sees their request. It looks for a request once more after it released
// the lock, to catch one that was made in between. Errors go to syslog.
func Work(ctx context.Context, o gateway.Options) {
	for {
		lock, err := o.TryLock("hook")
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

// applyUntilIdle applies until no request is left, and a few times more if that fails.
// The IKE daemon may be stopping, and its service manager ends all that it started: one
// apply is then finished, because it is about tunnels that went.
func applyUntilIdle(ctx context.Context, o gateway.Options) {
	retries := [...]time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second}
	waits := false
	for failures := 0; ; {
		err := o.Take(requestName, requestSuffix)
		if errors.Is(err, fs.ErrNotExist) && failures == 0 && !waits {
			return
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = apply(context.WithoutCancel(ctx), o)
		}
		if waits = errors.Is(err, confirm.ErrPending); waits {
			// The rules of an apply --confirm are on trial: they are not touched meanwhile.
			select {
			case <-ctx.Done():
				_ = o.Leave(requestName, requestSuffix)
				return
			case <-time.After(time.Second):
				continue
			}
		}
		if err == nil {
			failures = 0
			continue
		}
		worker.Log("hook", err)
		o.Note("hook", err)
		// A configuration error is not retried: only an edit fixes it, and the editor runs
		// apply.
		var bad *config.Error
		if errors.As(err, &bad) || failures == len(retries) {
			return
		}
		waitForRequest(ctx, o.Dirs, retries[failures])
		failures++
	}
}

func apply(ctx context.Context, o gateway.Options) error {
	g, err := gateway.Open(ctx, o)
	if err != nil {
		return err
	}
	_, err = confirm.Reconcile(ctx, g, "hook", false)
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
