// Package daemon keeps the live rules current: it reads the kernel's states and policies
// again as they change, and now and then without a change, and serves the metrics.
//
// A notification wakes it (source.go), eventfilter.go drops those that change nothing, package
// pace says when it looks, and reconcile.go commits. With the nftables engine follow.go puts
// elements of the concerned tunnels in force before that look. No file here decides on rules.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/config"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/interrupt"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/metrics"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/pace"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/reconcile"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/xfrm/follow"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// Options say how the daemon runs.
type Options struct {
	Gateway gateway.Options
	// Log gets a line for each event; the journal's are marked with their level.
	Log io.Writer
	// Version is that of the program, for the metrics.
	Version string
	// EventBuffer is the receive buffer of the kernel's notifications in bytes; 0 is the
	// usual size. Tests have some lost with a small one.
	EventBuffer int
	// WatchdogLimit is how long the daemon may work at one thing before the watchdog is no
	// longer told that it works; 0 is the usual time. Tests set a short one.
	WatchdogLimit time.Duration
}

const (
	// commandTimeout is when an iptables program is killed, because one that hangs keeps all
	// tunnels waiting; it is no longer than the usual interval of audits. A restore has more
	// time, with the size of its text. lockTimeout is how much of it legacy programs wait
	// for one another.
	commandTimeout = 10 * time.Second
	lockTimeout    = 6 * time.Second
	// turnLimit is when a reconcile is given up, and watchdogLimit when the watchdog is no
	// longer told that the daemon works.
	turnLimit     = 4 * time.Minute
	watchdogLimit = turnLimit + rundir.LockWait + time.Minute
	// deepAudit is how often the live rules are read although nf_tables notifies of every
	// change to them.
	deepAudit = 10 * time.Minute
	// confirmRetry is how often the daemon looks whether apply --confirm still waits.
	confirmRetry = time.Second
	// memoryReleaseDelay is how long after a reconcile memory is given back to the system: a
	// reconcile reads all that the kernel has, so it takes more than is kept to the next.
	memoryReleaseDelay = 2 * time.Second
)

// daemon is one gateway that a single goroutine keeps in line.
type daemon struct {
	options  Options
	log      logger
	gateway  *gateway.Gateway
	settings config.Daemon
	source   reconcile.Tracked
	// committing is gateway, for other goroutines.
	committing atomic.Pointer[gateway.Gateway]
	service    *service
	metrics    *metricsServer
	pace       pace.Pace
	presence   presence
	// refusedNudges is the number of nudges of other users that were counted.
	refusedNudges uint64

	// The sources of notifications about states and policies, the rest of the host, and
	// nf_tables; the last is nil with the legacy variant, which notifies of nothing.
	states, host, tables *source
	filter               eventFilter
	// index is that of the look that ends, for the filter.
	index *follow.Index
	flows flows
	// lost is how often the kernel had dropped notifications when they were used last.
	lost uint64

	// warned and failed are the texts logged last, which are not repeated.
	warned map[string]bool
	failed string
	// refused is the reason why the configuration as it is now is not in force.
	refused error
	// current is true once the lock was had, and the configuration is that of the latest apply.
	current bool
	// approved is true once rules of the configuration were in force, which is noted.
	approved bool
	// modules are the offload modules that were loaded.
	modules string

	auditAt, resyncAt time.Time
	// releaseAt is when memory is given back, zero if there is none to give.
	releaseAt time.Time
	heartbeat *heartbeat
}

// errAwaitingConfirm is the error of rules that apply --confirm has put in force: they
// are left alone until it is confirmed.
var errAwaitingConfirm = errors.New("apply --confirm waits for its confirmation")

// Run keeps the rules in line with the kernel until ctx is done; they stay in force then.
// An error says why the daemon could not start, or that another one took its place.
func Run(ctx context.Context, o Options) error {
	d := &daemon{
		options: o, log: newLogger(o.Log), service: newService(), metrics: newMetricsServer(o),
		presence: presence{dirs: o.Gateway.Dirs}, flows: flows{run: reconcile.ForgetFlows},
		heartbeat: newHeartbeat(cmp.Or(o.WatchdogLimit, watchdogLimit)),
	}
	if err := d.load(ctx); err != nil {
		return err
	}
	ctx, stop := interrupt.Context(ctx)
	defer stop()
	// Caught before the lock file names this process: by default SIGHUP kills.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, unix.SIGHUP)
	defer signal.Stop(hangup)
	defer d.presence.release()
	if err := d.presence.take(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := d.subscribe(ctx); err != nil {
		return err
	}
	defer d.unsubscribe()
	defer cancel() // runs before unsubscribe, which waits for the sources to end
	defer d.flows.wait()
	d.metrics.recorder.Follow(func() metrics.Notifications {
		c := d.states.counts()
		return metrics.Notifications{Events: c.Events, Lost: c.Lost}
	})
	d.pace.Reset(time.Now())
	d.reconcileOnce(ctx)
	d.metrics.configure(ctx, d.settings, d.log)
	defer d.metrics.close()
	d.service.ready(d.state())
	go d.service.watchdog(ctx, d.heartbeat.alive)
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
	g, err := gateway.OpenWith(ctx, d.options.Gateway, iptables.Options{Timeout: commandTimeout, Wait: lockTimeout})
	if err != nil {
		return err
	}
	if d.gateway != nil {
		g.Inherit(d.gateway)
	}
	scraped, err := g.Fork()
	if err != nil {
		return err
	}
	d.metrics.gateway.Store(scraped)
	d.gateway, d.settings, d.warned, d.approved = g, g.Config().Daemon, nil, false
	d.source.Gateway, d.source.Drift = g, d.drift
	d.committing.Store(g)
	d.filter.keepNotes(g.Engine().TableDecides())
	return nil
}

// subscribe opens the sources of notifications before the first look, so that each later
// change is notified.
func (d *daemon) subscribe(ctx context.Context) error {
	d.states = newSource("states and policies", func() (*kernel.Watcher, error) {
		w, err := kernel.WatchFor(d.filter.relevant)
		d.filter.lose() // those from before it listened, also from within a look
		if err == nil && d.options.EventBuffer > 0 {
			err = w.SetBuffer(d.options.EventBuffer)
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
	if !d.gateway.InTables() {
		return nil
	}
	own := func(c kernel.Committer) bool { return d.committing.Load().Committed(c) }
	d.tables = newSource("nf_tables", func() (*kernel.Watcher, error) { return kernel.WatchTables(own) })
	if err := d.tables.start(ctx, d.log); err != nil {
		d.log.warn("%v: changes of others to the rules are seen every %s only", err, d.settings.Audit)
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

// loop reconciles whenever it is due until ctx is done. The error is that of another
// daemon which took the place of this one.
func (d *daemon) loop(ctx context.Context, hangup <-chan os.Signal) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		d.heartbeat.beat()
		next := now.Add(d.heartbeat.interval())
		if d.auditAt.Before(next) {
			next = d.auditAt
		}
		if d.resyncAt.Before(next) {
			next = d.resyncAt
		}
		if due, ok := d.pace.Due(); ok && due.Before(next) {
			next = due
		}
		if !d.releaseAt.IsZero() && d.releaseAt.Before(next) {
			next = d.releaseAt
		}
		timer.Reset(next.Sub(now))
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			d.reload(ctx)
			d.reconcileOnce(ctx)
		case <-d.states.C():
			d.follow()
		case <-d.host.C():
			d.pace.Event(time.Now())
		case <-d.presence.C():
			d.metrics.recorder.Nudged()
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

// tick does all that is due. The error is that of loop.
func (d *daemon) tick(ctx context.Context, now time.Time) error {
	if !now.Before(d.auditAt) {
		d.auditAt = now.Add(d.settings.Audit)
		for refused := d.presence.refused(); d.refusedNudges < refused; d.refusedNudges++ {
			d.metrics.recorder.PeerRefused()
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
		d.reconcileOnce(ctx)
		return nil
	}
	if !d.releaseAt.IsZero() && !now.Before(d.releaseAt) {
		d.releaseAt = time.Time{}
		go debug.FreeOSMemory() // takes as long as a snapshot
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
		d.log.warn("%s was emptied: its files were made again", d.options.Gateway.Run)
		d.refusedNudges = 0
		d.pace.Event(time.Now())
	}
	return nil
}

// audit reads the live rules where no notification tells of their changes. It also looks
// for offload modules, because the kernel does not notify of a module.
func (d *daemon) audit(now time.Time) {
	// Reading takes at most a hundredth of the time, at any interval.
	readAt, cost := d.source.LastRead()
	due := readAt.Add(100 * cost)
	if d.tables.alive() && d.gateway.InTables() {
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
	d.reread(ctx)
}

// reread loads the configuration again. One that is refused leaves the former one in force.
func (d *daemon) reread(ctx context.Context) {
	if err := d.load(ctx); err != nil {
		d.refused = fmt.Errorf("read configuration again: %w; the former one stays in force", err)
		d.log.fail("%v", d.refused)
		d.metrics.recorder.Reloaded(d.refused)
		return
	}
	d.refused, d.auditAt = nil, time.Time{} // a shorter interval holds at once
	d.metrics.recorder.Reloaded(nil)
	d.metrics.configure(ctx, d.settings, d.log)
	d.log.info("read the configuration again")
}

// state is the line that the service manager shows.
func (d *daemon) state() string {
	if d.failed != "" {
		return d.failed
	}
	if d.refused != nil {
		return d.refused.Error()
	}
	return "the rules follow the kernel"
}
