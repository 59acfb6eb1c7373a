package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/syslog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/nudge"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/peers"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
)

func hookCommand(o *options) *cobra.Command {
	var worker bool
	cmd := &cobra.Command{
		Use:   "hook",
		Short: "Have the rules follow a change, from an IKE daemon's updown script",
		Long: `hook nudges the daemon; where none runs, it starts one apply in the background.
It returns at once, since the IKE daemon waits for it. Any number of calls at
once come to one or two applies. It always exits with 0: trouble is reported to
syslog, and never fails the tunnel.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if worker {
				hookWork(cmd.Context(), o)
				return nil
			}
			if err := hook(o, os.Environ()); err != nil {
				logSyslog("hook", err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&worker, "worker", false, "do the applies, as the background process")
	cobra.CheckErr(cmd.Flags().MarkHidden("worker"))
	return cmd
}

// hook records who the peer is, and nudges the daemon. If that does not take the
// nudge, a worker does its work: the lock keeps the two from undoing each other.
func hook(o *options, environ []string) error {
	recorded := recordPeer(o, environ)
	socket, err := daemonSocket(o)
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
	return errors.Join(recorded, nudged, leaveWord(o))
}

// recordPeer keeps what the IKE daemon says of the peer, for those who look at the
// tunnels later on.
func recordPeer(o *options, environ []string) error {
	event, err := peers.FromEnviron(environ)
	if err != nil || event.Kind == peers.Other {
		return err
	}
	dir, err := o.dirs().Peers()
	if err != nil {
		return err
	}
	store := peers.In(dir)
	if event.Kind == peers.Up {
		return store.Put(event.Record)
	}
	return store.Down(event.Record)
}

// leaveWord says that something changed, and sees to it that a worker runs.
func leaveWord(o *options) error {
	if err := leaveFile(o, "hook", ".pending"); err != nil {
		return err
	}
	return background(o, "hook")
}

// hookWork applies until no word is left. Of many workers one works; the others
// leave, as it will find their word: it looks once more after giving back the
// lock, for the one who came in between.
func hookWork(ctx context.Context, o *options) {
	for {
		held, err := tryLock(o, "hook")
		if errors.Is(err, rundir.ErrLocked) {
			return
		}
		if err != nil {
			logSyslog("hook", err)
			return
		}
		workThrough(ctx, o)
		held.Release()
		if !hasFile(o, "hook", ".pending") || ctx.Err() != nil {
			return
		}
	}
}

// workThrough applies until no word is left, and a few times more if that fails.
// The IKE daemon may be stopping, and its service with all that it started be
// told to end: one apply is then finished, as it is about tunnels that went.
func workThrough(ctx context.Context, o *options) {
	retries := [...]time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second}
	for failures := 0; ; {
		err := takeFile(o, "hook", ".pending")
		if errors.Is(err, fs.ErrNotExist) && failures == 0 {
			return
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = apply(context.WithoutCancel(ctx), o, "hook", io.Discard, io.Discard)
		}
		if err == nil {
			failures = 0
			continue
		}
		logSyslog("hook", err)
		note(o, "hook", err)
		// Nothing but an editor mends a configuration, and who edits it applies.
		if exitStatus(err, true) == exitUsage || failures == len(retries) {
			return
		}
		awaitWord(ctx, o, retries[failures])
		failures++
	}
}

// awaitWord waits for a while, or until there is new word or the end is asked for.
func awaitWord(ctx context.Context, o *options, limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(limit, 200*time.Millisecond)):
		}
		if hasFile(o, "hook", ".pending") {
			return
		}
	}
}

// logSyslog logs the error of a command that has no terminal. Without a syslog
// daemon the error is lost.
func logSyslog(command string, err error) {
	w, dial := syslog.New(syslog.LOG_ERR|syslog.LOG_DAEMON, "xfrmfw")
	if dial != nil {
		return
	}
	_ = w.Err(command + ": " + err.Error())
	_ = w.Close()
}
