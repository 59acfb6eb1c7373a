// Package confirm applies rules that have to be confirmed: a process waits in the
// background and puts the former chains and jumps back unless the user confirms in time.
// The configuration is confirmed with them: until then, daemon, hook and apply --unattended
// use the former one.
package confirm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/approved"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/nudge"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/pending"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/reconcile"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/worker"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// change is an apply that waits for its confirmation, in the form of its file in the run
// directory. A reboot ends the file and the rules.
type change struct {
	// Deadline is by pending.Now.
	Deadline int64  `json:"deadline"`
	Variant  string `json:"variant"`
	// Config is the path of the configuration.
	Config string `json:"config"`
	// Former are the live rules from before, as iptables-save printed them.
	Former map[xfrm.Family]string `json:"former"`
	// Table is the table of nftables from before, as nftables.Save has it, and TableDecided
	// is true if it had the verdicts.
	Table        []byte `json:"table"`
	TableDecided bool   `json:"table_decided"`
}

// ErrPending is the error of a command that has to wait for a change to be confirmed.
var ErrPending = errors.New("an earlier apply --confirm still waits: run xfrmfw confirm first, or let it run out")

// Apply applies, and starts the process that puts the former chains and jumps back after
// limit unless Keep is called. The process starts before the rules change, because the
// new rules may cut off the terminal.
//
// The lock is held from before the former rules are read until the new ones are in force,
// so that the deadline can't pass between the two.
func Apply(ctx context.Context, g *gateway.Gateway, limit time.Duration) (reconcile.Outcome, error) {
	out, err := apply(ctx, g, limit)
	out.ForgetFlows(ctx)
	return out, err
}

func apply(ctx context.Context, g *gateway.Gateway, limit time.Duration) (reconcile.Outcome, error) {
	o := g.Options()
	unlock, err := o.Lock(ctx, "apply")
	if err != nil {
		return reconcile.Outcome{}, err
	}
	defer unlock()
	if err := Settle(ctx, o); err != nil {
		return reconcile.Outcome{}, err
	}
	if g, err = g.Current(ctx); err != nil {
		return reconcile.Outcome{}, err
	}
	// Before the configuration is held back and the waiting process starts.
	if err := reconcile.CheckTests(ctx, g); err != nil {
		return reconcile.Outcome{}, err
	}
	rules, err := g.Rules(ctx)
	if err != nil {
		return reconcile.Outcome{}, err
	}
	c := change{Deadline: pending.Now() + int64(limit), Config: o.Config, Former: make(map[xfrm.Family]string)}
	if p := g.Programs(); p != nil {
		c.Variant = string(p.Variant())
	}
	if c.Table, c.TableDecided, err = g.SavedTable(); err != nil {
		return reconcile.Outcome{}, err
	}
	for family, save := range rules {
		c.Former[family] = string(save.Append(nil))
	}
	if err := c.begin(ctx, g, o); err != nil {
		return reconcile.Outcome{}, err
	}
	// A daemon changes nothing while the file is there, and reads the new configuration
	// once it is confirmed.
	out, err := reconcile.ApplyLocked(ctx, g, reconcile.ByConfirm, false)
	if err != nil {
		// Some of the new rules may be in force. The file stays if the former ones can't be put
		// back now: the waiting process tries again.
		if back := c.rollBack(context.WithoutCancel(ctx)); back != nil {
			return out, errors.Join(err, fmt.Errorf("%w: tried again after %s", back, limit))
		}
		_ = o.Take(pending.Name, pending.Suffix)
	}
	return out, err
}

// Reconcile is reconcile.ApplyLocked with the lock taken, and ErrPending while a change
// waits to be confirmed.
func Reconcile(ctx context.Context, g *gateway.Gateway, by string, interactive bool) (reconcile.Outcome, error) {
	out, err := reconcileOnce(ctx, g, by, interactive)
	out.ForgetFlows(ctx)
	return out, err
}

func reconcileOnce(ctx context.Context, g *gateway.Gateway, by string, interactive bool) (reconcile.Outcome, error) {
	o := g.Options()
	unlock, err := o.Lock(ctx, "apply")
	if err != nil {
		return reconcile.Outcome{}, err
	}
	defer unlock()
	if err := Settle(ctx, o); err != nil {
		return reconcile.Outcome{}, err
	}
	if g, err = g.Current(ctx); err != nil {
		return reconcile.Outcome{}, err
	}
	return reconcile.ApplyLocked(ctx, g, by, interactive)
}

// begin holds the configuration back, writes the file, and starts the waiting process,
// which inherits the lock: as long as it lives, no other process has it. No rule changes
// before that process is ready, because a signal that comes earlier ends it without a
// rollback.
func (c change) begin(ctx context.Context, g *gateway.Gateway, o gateway.Options) error {
	lock, err := o.TryLock(pending.Name)
	// The process of a change that was just confirmed may be about to end, which takes the
	// longer the busier the machine is.
	for end := time.Now().Add(10 * time.Second); errors.Is(err, rundir.ErrLocked) && ctx.Err() == nil && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
		lock, err = o.TryLock(pending.Name)
	}
	if errors.Is(err, rundir.ErrLocked) {
		return ErrPending
	}
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := g.Hold(); err != nil {
		return err
	}
	// A daemon that is not root reads the file too.
	text, err := json.Marshal(c)
	if err == nil {
		err = o.Create(pending.Name, pending.Suffix, text)
	}
	if err != nil {
		return fmt.Errorf("keep the former rules: %w", err)
	}
	if err := worker.StartReady("confirm", o, lock.File()); err != nil {
		_ = o.Take(pending.Name, pending.Suffix)
		return err
	}
	return nil
}

// Settle returns nil if no change waits to be confirmed, and ErrPending if one does. A
// change with its time over and its process dead is rolled back first. The caller
// holds the lock of apply.
func Settle(ctx context.Context, o gateway.Options) error {
	s := pending.Look(o.Dirs)
	if !s.Pending {
		return nil
	}
	if s.Alive || s.Left > 0 {
		return ErrPending
	}
	text, err := o.Read(pending.Name, pending.Suffix, pending.MaxSize)
	var c change
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		return fmt.Errorf("%w; its file can't be read: %w", ErrPending, err)
	}
	if err := c.rollBack(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	return o.Take(pending.Name, pending.Suffix)
}

// Keep keeps the new rules and their configuration. The process that removes the file
// wins: Keep, or the one that waits for the deadline.
func Keep(ctx context.Context, o gateway.Options) error {
	unlock, err := o.Lock(ctx, "apply")
	if err != nil {
		return err
	}
	defer unlock()
	text, err := o.Read(pending.Name, pending.Suffix, pending.MaxSize)
	c := change{Config: o.Config}
	if err == nil {
		_ = json.Unmarshal(text, &c)
		err = approved.In(o.State).Confirm(c.Config)
	}
	if err == nil {
		err = o.Take(pending.Name, pending.Suffix)
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New("nothing waits to be confirmed: it was confirmed before, its time is over, or apply ran without --confirm; see xfrmfw status")
		}
		return fmt.Errorf("confirm: %w", err)
	}
	return nudge.Reload(o.Dirs)
}

// Await is the waiting process: it sleeps until the deadline and puts the former rules
// back if the file is still there. Rules that others wrote meanwhile stay. Told to end,
// as the end of a login may tell all its processes, it puts them back at once, because no
// other process would do it before the next apply.
func Await(ctx context.Context, o gateway.Options) error {
	signal.Ignore(unix.SIGHUP)
	unix.CloseOnExec(worker.FirstFile) // the lock is this process's, and not that of its children
	worker.Ready()
	text, err := o.Read(pending.Name, pending.Suffix, pending.MaxSize)
	if err != nil {
		return fmt.Errorf("read the former rules: %w", err)
	}
	var c change
	if err := json.Unmarshal(text, &c); err != nil {
		return fmt.Errorf("read the former rules: %w", err)
	}
	// Once the file is gone it was decided, and the next change may begin.
	const interval = 200 * time.Millisecond
	for o.Has(pending.Name, pending.Suffix) && pending.Now() < c.Deadline && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(min(interval, time.Duration(c.Deadline-pending.Now()))):
		}
	}
	ctx = context.WithoutCancel(ctx)
	unlock, err := o.Lock(ctx, "apply")
	if err != nil {
		return err
	}
	defer unlock()
	switch now, err := o.Read(pending.Name, pending.Suffix, pending.MaxSize); {
	case errors.Is(err, fs.ErrNotExist), err == nil && !bytes.Equal(now, text):
		return nil // confirmed
	case err != nil:
		return fmt.Errorf("read the former rules: %w", err)
	}
	if err := c.rollBack(ctx); err != nil {
		return err
	}
	return o.Take(pending.Name, pending.Suffix)
}

// rollBack puts the former chains, jumps and table of xfrmfw back: first those that had
// the verdicts.
func (c change) rollBack(ctx context.Context) error {
	parts := []func(context.Context) error{c.rulesBack, c.tableBack}
	if c.TableDecided {
		slices.Reverse(parts)
	}
	for _, back := range parts {
		if err := back(ctx); err != nil {
			return fmt.Errorf("put the former rules back: %w", err)
		}
	}
	return nil
}

func (c change) tableBack(context.Context) error { return gateway.RestoreTable(c.Table) }

func (c change) rulesBack(ctx context.Context) error {
	if c.Variant == "" { // a host without iptables
		return nil
	}
	former := make(map[xfrm.Family]live.Tables, len(c.Former))
	families := make([]xfrm.Family, 0, len(c.Former))
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		text, ok := c.Former[family]
		if !ok {
			continue
		}
		save, err := live.Parse([]byte(text))
		if err != nil {
			return fmt.Errorf("read the former rules: %w", err)
		}
		former[family] = save
		families = append(families, family)
	}
	programs, err := iptables.Find(ctx, iptables.Options{Variant: iptables.Variant(c.Variant), Families: families})
	if err != nil {
		return fmt.Errorf("find iptables: %w", err)
	}
	_, err = reconcile.Until(ctx, programs, func(now map[xfrm.Family]live.Tables) (plan.Change, error) {
		return plan.Rollback(former, now)
	})
	return err
}
