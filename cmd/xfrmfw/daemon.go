package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/config"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/metrics"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/pace"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/reconcile"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

func daemonCommand(o *options) *cobra.Command {
	var buffer int
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Keep the rules in line with the kernel's states and policies",
		Long: `daemon applies, and then again whenever the kernel's states, policies, links,
addresses or routes change, when a hook says that they did, and when others
change its rules. SIGHUP has it read its configuration again; with a bad one the
former stays. When it ends the rules stay in force.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDaemon(cmd.Context(), o, buffer, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().IntVar(&buffer, "event-buffer", 0, "receive buffer of the kernel's notifications in bytes, to have some lost in tests")
	cobra.CheckErr(cmd.Flags().MarkHidden("event-buffer"))
	return cmd
}

const (
	// patience is when a program that the daemon runs is killed, since one that
	// hangs keeps all tunnels waiting; it is no longer than the usual interval of
	// audits. A restore has more, with the size of its text. lockPatience is how
	// much of it legacy programs wait for one another.
	patience     = 10 * time.Second
	lockPatience = 6 * time.Second
	// turnLimit is when a turn is given up, and stuck when the watchdog is no
	// longer told that all is well.
	turnLimit = 4 * time.Minute
	stuck     = turnLimit + lockWait + time.Minute
	// deepAudit is how often the live rules are read though nf_tables tells of
	// every change to them.
	deepAudit = 10 * time.Minute
	// heldRetry is how often the daemon looks whether apply --confirm still
	// waits.
	heldRetry = time.Second
	// quiet is how long after a turn the memory that it took is given back to the
	// system. A turn reads all that the kernel has, so it takes more than what is
	// kept from one to the next.
	quiet = 2 * time.Second
)

// A daemon is one gateway, looked at again and again by a single goroutine.
type daemon struct {
	o        *options
	log      logger
	g        *gateway.Gateway
	settings config.Daemon
	source   reconcile.Tracked
	programs atomic.Pointer[iptables.Programs] // those of g, for other goroutines
	service  *service
	measure  *measure
	pace     pace.Pace
	presence presence
	// strangers are the nudges of users who may not that were counted.
	strangers uint64

	// The kernel's states and policies, the rest of the host, and nf_tables;
	// the last is nil with the legacy variant, which tells nothing.
	states, host, tables *source
	known                known

	// warned and failed are what was last logged, which is not repeated.
	warned map[string]bool
	failed string
	// refused is why the configuration as it is now is not in force, if so.
	refused error
	// modules tells which offloads were loaded.
	modules string

	auditAt, resyncAt time.Time
	// tidyAt is when memory is given back, zero if there is none to give.
	tidyAt time.Time
	// beat is when the loop was last seen, in nanoseconds since the epoch.
	beat atomic.Int64
}

// errHeld says that the rules are not to be touched while apply --confirm waits.
var errHeld = errors.New("apply --confirm waits for its confirmation")

func runDaemon(ctx context.Context, o *options, buffer int, stderr io.Writer) error {
	d := &daemon{o: o, log: newLogger(stderr), service: newService(), measure: newMeasure(o)}
	if err := d.load(ctx); err != nil {
		return err
	}
	// Before the lock, which says whom to signal: by default SIGHUP kills.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, unix.SIGHUP)
	defer signal.Stop(hangup)
	d.presence.o = o
	defer d.presence.release()
	if err := d.presence.take(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := d.subscribe(ctx, buffer); err != nil {
		return err
	}
	defer d.unsubscribe()
	defer cancel() // before unsubscribe, which waits for those who listen
	d.measure.recorder.Follow(func() metrics.Notifications {
		c := d.states.counts()
		return metrics.Notifications{Events: c.Events, Lost: c.Lost}
	})
	d.pace.Reset(time.Now())
	d.turn(ctx)
	d.measure.follow(ctx, d.settings, d.log)
	defer d.measure.end()
	d.service.ready(d.state())
	go d.service.watchdog(ctx, func() bool { return time.Since(time.Unix(0, d.beat.Load())) < stuck })
	if err := d.loop(ctx, hangup); err != nil {
		return err
	}
	d.service.stopping()
	d.log.info("ended: the rules stay in force")
	return nil
}

// load reads the configuration and finds the programs. After an error nothing
// has changed.
func (d *daemon) load(ctx context.Context) error {
	g, err := gateway.OpenWith(ctx, d.o.gateway(""), iptables.Options{Timeout: patience, Wait: lockPatience})
	if err != nil {
		return err
	}
	if d.g != nil {
		g.Inherit(d.g)
	}
	scraped, err := g.Fork()
	if err != nil {
		return err
	}
	d.measure.gateway.Store(scraped)
	d.g, d.settings, d.warned = g, g.Config().Daemon, nil
	d.source.Gateway, d.source.Drift = g, d.drift
	d.programs.Store(g.Programs())
	return nil
}

// subscribe opens what tells of changes, before the first look: what changes
// after it is told.
func (d *daemon) subscribe(ctx context.Context, buffer int) error {
	d.states = newSource("states and policies", func() (*kernel.Watcher, error) {
		d.known.fail() // what came before it is not known
		w, err := kernel.WatchFor(d.known.relevant)
		if err == nil && buffer > 0 {
			err = w.SetBuffer(buffer)
		}
		return w, err
	})
	if err := d.states.start(ctx, d.log); err != nil {
		return err
	}
	d.host = newSource("links, addresses and routes", kernel.WatchHost)
	if err := d.host.start(ctx, d.log); err != nil {
		d.log.warn("%v: changes of the host are seen every %s only", err, d.settings.Resync)
		d.host = nil
	}
	if d.g.Programs().Variant() != iptables.NFT {
		return nil
	}
	own := func(pid int) bool { return d.programs.Load().Ran(pid) }
	d.tables = newSource("nf_tables", func() (*kernel.Watcher, error) { return kernel.WatchTables(own) })
	if err := d.tables.start(ctx, d.log); err != nil {
		d.log.warn("%v: what others do to the rules is seen every %s only", err, d.settings.Audit)
		d.tables = nil
	}
	return nil
}

func (d *daemon) unsubscribe() {
	for _, s := range []*source{d.states, d.host, d.tables} {
		if s != nil {
			s.wait()
		}
	}
}

// loop takes turns until ctx is done. The error is that of another daemon which
// took the place of this one.
func (d *daemon) loop(ctx context.Context, hangup <-chan os.Signal) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		d.beat.Store(now.UnixNano())
		next := d.auditAt
		if d.resyncAt.Before(next) {
			next = d.resyncAt
		}
		if due, ok := d.pace.Due(); ok && due.Before(next) {
			next = due
		}
		if !d.tidyAt.IsZero() && d.tidyAt.Before(next) {
			next = d.tidyAt
		}
		timer.Reset(next.Sub(now))
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			d.reload(ctx)
			d.turn(ctx)
		case <-d.states.C():
			d.pace.Event(time.Now())
		case <-d.host.C():
			d.pace.Event(time.Now())
		case <-d.presence.C():
			d.measure.recorder.Nudged()
			d.pace.Event(time.Now())
		case <-d.presence.files.C():
			if err := d.renew(ctx); err != nil {
				return err
			}
		case <-d.tables.C():
			d.source.Lost()
			d.pace.Event(time.Now())
		case <-timer.C:
			if err := d.tick(ctx, time.Now()); err != nil {
				return err
			}
		}
	}
}

// tick does what is due. The error is that of loop.
func (d *daemon) tick(ctx context.Context, now time.Time) error {
	if !now.Before(d.auditAt) {
		d.auditAt = now.Add(d.settings.Audit)
		for refused := d.presence.refused(); d.strangers < refused; d.strangers++ {
			d.measure.recorder.PeerRefused()
		}
		if err := d.renew(ctx); err != nil {
			return err
		}
		d.audit(now)
	}
	if !now.Before(d.resyncAt) {
		d.resyncAt = now.Add(d.settings.Resync)
		d.pace.Event(now)
	}
	if due, ok := d.pace.Due(); ok && !now.Before(due) {
		d.turn(ctx)
		return nil
	}
	if !d.tidyAt.IsZero() && !now.Before(d.tidyAt) {
		d.tidyAt = time.Time{}
		debug.FreeOSMemory()
	}
	return nil
}

// renew makes the files again that are missing in the run directory, and has the
// kernel looked at, because hooks may have met no daemon meanwhile.
func (d *daemon) renew(ctx context.Context) error {
	renewed, err := d.presence.renew(ctx)
	switch {
	case errors.Is(err, errReplaced):
		return fmt.Errorf("%w: this one ends, and the rules stay in force", err)
	case err != nil:
		d.log.warn("%v: until then hooks apply by themselves, and a second daemon could start", err)
	case renewed:
		d.log.warn("%s was emptied: its files were made again", d.o.runDir)
		d.strangers = 0
		d.pace.Event(time.Now())
	}
	return nil
}

// audit has the live rules read where a change of theirs could have gone unseen.
// An offload module that was loaded is nothing that the kernel tells of either.
func (d *daemon) audit(now time.Time) {
	// Reading takes at most a hundredth of the time, whatever the interval.
	readAt, cost := d.source.LastRead()
	due := readAt.Add(100 * cost)
	if d.tables.alive() && d.g.Programs().Variant() == iptables.NFT {
		due = readAt.Add(max(deepAudit, 1000*cost))
	}
	if !now.Before(due) {
		d.source.Lost()
		d.pace.Event(now)
	}
	if modules := kernel.OffloadModules(); modules != d.modules {
		d.modules = modules
		d.pace.Event(now)
	}
}

// reload reads the configuration again.
func (d *daemon) reload(ctx context.Context) {
	d.service.reloading()
	defer func() { d.service.ready(d.state()) }()
	if err := d.load(ctx); err != nil {
		d.refused = fmt.Errorf("read configuration again: %w; the former one stays in force", err)
		d.log.fail("%v", d.refused)
		d.measure.recorder.Reloaded(d.refused)
		return
	}
	d.refused = nil
	d.measure.recorder.Reloaded(nil)
	d.measure.follow(ctx, d.settings, d.log)
	d.log.info("read the configuration again")
}

// state is a line for who asks the service manager.
func (d *daemon) state() string {
	if d.failed != "" {
		return d.failed
	}
	if d.refused != nil {
		return d.refused.Error()
	}
	return "the rules follow the kernel"
}
