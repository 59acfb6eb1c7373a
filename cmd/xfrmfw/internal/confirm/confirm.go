// Package confirm applies rules that have to be confirmed: a process waits in the
// background and puts the former chains and jumps back unless the user confirms in time.
package confirm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/nudge"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/reconcile"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/worker"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// pending is a change that waits for its confirmation, as its file in the run directory
// has it. The file does not outlive a reboot; nor do the rules.
type pending struct {
	// Deadline is in seconds since the epoch.
	Deadline int64  `json:"deadline"`
	Variant  string `json:"variant"`
	// Former are the live rules from before, as iptables-save printed them.
	Former map[xfrm.Family]string `json:"former"`
}

// The file of a pending change, and the bound of its size: it has all live rules.
const (
	fileName, fileSuffix = "confirm", ".json"
	maxFile              = 1 << 30
)

// Apply applies, and starts the process that puts the former chains and jumps back after
// limit unless Keep is called. The process starts before the rules change, because the
// new rules may cut off the terminal.
//
// The lock is held from before the former rules are read until the new ones are in force,
// so that the deadline can't pass between the two.
func Apply(ctx context.Context, g *gateway.Gateway, limit time.Duration) (reconcile.Outcome, error) {
	o := g.Options()
	unlock, err := o.Lock(ctx, "apply")
	if err != nil {
		return reconcile.Outcome{}, err
	}
	defer unlock()
	if Pending(o.Dirs) {
		return reconcile.Outcome{}, errors.New("an earlier apply --confirm still waits: run xfrmfw confirm first, or let it run out")
	}
	rules, err := g.Rules(ctx)
	if err != nil {
		return reconcile.Outcome{}, err
	}
	p := pending{Deadline: time.Now().Add(limit).Unix(), Variant: string(g.Programs().Variant()), Former: make(map[xfrm.Family]string)}
	for family, save := range rules {
		p.Former[family] = string(save.Append(nil))
	}
	if err := p.write(o.Dirs); err != nil {
		return reconcile.Outcome{}, err
	}
	if err := worker.Start("confirm", o); err != nil {
		_ = o.Take(fileName, fileSuffix)
		return reconcile.Outcome{}, err
	}
	// A daemon changes nothing while the file is there, and reads the new configuration
	// once it is confirmed.
	out, err := reconcile.ApplyLocked(ctx, g, "apply --confirm", false)
	if err != nil {
		// Some of the new rules may be in force. The file stays if the former ones can't be put
		// back now: the waiting process tries again.
		if back := p.rollBack(context.WithoutCancel(ctx)); back != nil {
			return out, errors.Join(err, fmt.Errorf("%w: tried again after %s", back, limit))
		}
		_ = o.Take(fileName, fileSuffix)
	}
	return out, err
}

// write writes the file for the waiting process. A daemon that is not root reads it too.
func (p pending) write(dirs rundir.Dirs) error {
	text, err := json.Marshal(p)
	if err == nil {
		err = dirs.Create(fileName, fileSuffix, text)
	}
	if err != nil {
		return fmt.Errorf("keep the former rules: %w", err)
	}
	return nil
}

// Pending reports whether a change waits to be confirmed, or may wait, because that can't
// be told. A change whose deadline has long passed lost its process, and waits no more.
func Pending(dirs rundir.Dirs) bool {
	text, err := dirs.Read(fileName, fileSuffix, maxFile)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	var p pending
	if json.Unmarshal(text, &p) == nil && time.Since(time.Unix(p.Deadline, 0)) < 2*rundir.LockWait {
		return true
	}
	_ = dirs.Take(fileName, fileSuffix)
	return false
}

// Keep keeps the new rules. The process that removes the file wins: Keep, or the one that
// waits for the deadline.
func Keep(ctx context.Context, o gateway.Options) error {
	unlock, err := o.Lock(ctx, "apply")
	if err != nil {
		return err
	}
	defer unlock()
	if err := o.Take(fileName, fileSuffix); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New("nothing waits to be confirmed: the time has run out, or apply was run without --confirm")
		}
		return fmt.Errorf("confirm: %w", err)
	}
	return nudge.Reload(o.Dirs)
}

// Await is the waiting process: it sleeps until the deadline and puts the former rules
// back if the file is still there. Rules that others wrote meanwhile stay. Told to end,
// as the end of a login may tell all its processes, it puts them back at once, because no
// other process would do it later.
func Await(ctx context.Context, o gateway.Options) error {
	signal.Ignore(unix.SIGHUP)
	text, err := o.Read(fileName, fileSuffix, maxFile)
	if err != nil {
		return fmt.Errorf("read the former rules: %w", err)
	}
	var p pending
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("read the former rules: %w", err)
	}
	select {
	case <-ctx.Done():
		ctx = context.WithoutCancel(ctx)
	case <-time.After(time.Until(time.Unix(p.Deadline, 0))):
	}
	unlock, err := o.Lock(ctx, "apply")
	if err != nil {
		return err
	}
	defer unlock()
	switch now, err := o.Read(fileName, fileSuffix, maxFile); {
	case errors.Is(err, fs.ErrNotExist), err == nil && !bytes.Equal(now, text):
		return nil // confirmed
	case err != nil:
		return fmt.Errorf("read the former rules: %w", err)
	}
	if err := p.rollBack(ctx); err != nil {
		return err
	}
	return o.Take(fileName, fileSuffix)
}

// rollBack puts the former chains and jumps of xfrmfw back.
func (p pending) rollBack(ctx context.Context) error {
	former := make(map[xfrm.Family]live.Tables, len(p.Former))
	families := make([]xfrm.Family, 0, len(p.Former))
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		text, ok := p.Former[family]
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
	programs, err := iptables.Find(ctx, iptables.Options{Variant: iptables.Variant(p.Variant), Families: families})
	if err != nil {
		return fmt.Errorf("find iptables: %w", err)
	}
	_, err = reconcile.Until(ctx, programs, func(now map[xfrm.Family]live.Tables) (plan.Change, error) {
		return plan.Rollback(former, now)
	})
	if err != nil {
		return fmt.Errorf("put the former rules back: %w", err)
	}
	return nil
}
