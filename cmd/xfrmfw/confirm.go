package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/reconcile"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// pending is a change that waits for a word from the user, as it lies in the
// run directory, which does not outlive a reboot; nor do the rules.
type pending struct {
	// Deadline is in seconds since the epoch.
	Deadline int64  `json:"deadline"`
	Variant  string `json:"variant"`
	// Former are the live rules from before, as iptables-save printed them.
	Former map[xfrm.Family]string `json:"former"`
}

func confirmCommand(o *options) *cobra.Command {
	var worker bool
	cmd := &cobra.Command{
		Use:   "confirm",
		Short: "Keep the rules that apply --confirm put in force",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if worker {
				if err := awaitConfirm(cmd.Context(), o); err != nil {
					logSyslog("confirm", err)
				}
				return nil
			}
			return confirm(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&worker, "worker", false, "wait for the deadline, as the background process")
	cobra.CheckErr(cmd.Flags().MarkHidden("worker"))
	return cmd
}

// maxPending bounds the file of the change that waits, which has all live rules.
const maxPending = 1 << 30

// readPending returns the text of the change that waits in this network namespace.
// The error is fs.ErrNotExist if none does.
func readPending(o *options) ([]byte, error) {
	d, err := rundir.Open(o.runDir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	file, err := runName("confirm", ".json")
	if err != nil {
		return nil, err
	}
	text, _, err := d.Read(file, maxPending)
	return text, err
}

// applyUntilConfirmed applies, and starts the process that puts our former
// chains and jumps back unless confirm comes in time. It starts before the
// rules change, in a session of its own: the new rules may cut off the terminal.
//
// The lock is held from before the former rules are read until the new ones
// stand, so that the time can't run out in between and leave the new ones to
// nobody.
func applyUntilConfirmed(ctx context.Context, o *options, limit time.Duration, stdout, stderr io.Writer) error {
	g, err := gateway.Open(ctx, o.gateway(""))
	if err != nil {
		return err
	}
	unlock, err := lock(ctx, o, "apply")
	if err != nil {
		return err
	}
	defer unlock()
	if waiting(o) {
		return errors.New("an earlier apply --confirm still waits: run xfrmfw confirm first, or let it run out")
	}
	rules, err := g.Rules(ctx)
	if err != nil {
		return err
	}
	p := pending{Deadline: time.Now().Add(limit).Unix(), Variant: string(g.Programs().Variant()), Former: map[xfrm.Family]string{}}
	for family, save := range rules {
		p.Former[family] = string(save.Append(nil))
	}
	if err := p.write(o); err != nil {
		return err
	}
	if err := background(o, "confirm"); err != nil {
		_ = takeFile(o, "confirm", ".json")
		return err
	}
	// The daemon, if there is one, holds still while the file is there, and reads
	// the new configuration once it is confirmed.
	var said bytes.Buffer
	if err := applyLocked(ctx, o, g, "apply --confirm", &said, stderr); err != nil {
		// Some of the new rules may stand. The file stays if the former ones can't
		// be put back now: the process tries it again.
		if back := rollBack(context.WithoutCancel(ctx), p); back != nil {
			return errors.Join(err, fmt.Errorf("%w: tried again after %s", back, limit))
		}
		_ = takeFile(o, "confirm", ".json")
		return err
	}
	// A terminal that is gone confirms nothing.
	_, err = fmt.Fprintf(stdout, "%srun xfrmfw confirm within %s, or the former rules come back\n", said.String(), limit)
	return err
}

// write puts the change where the process that waits finds it. A daemon that is
// not root has to read it too.
func (p pending) write(o *options) error {
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("keep the former rules: %w", err)
	}
	d, err := makeRunDir(o)
	if err != nil {
		return err
	}
	defer d.Close()
	file, err := runName("confirm", ".json")
	if err == nil {
		err = d.Create(file, text)
	}
	if err != nil {
		return fmt.Errorf("keep the former rules: %w", err)
	}
	return nil
}

// waiting reports whether a change waits to be confirmed, or may wait, because
// that can't be told. One whose time has long run out lost its worker, and waits
// no more.
func waiting(o *options) bool {
	text, err := readPending(o)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	var p pending
	if json.Unmarshal(text, &p) == nil && time.Since(time.Unix(p.Deadline, 0)) < 2*lockWait {
		return true
	}
	_ = takeFile(o, "confirm", ".json")
	return false
}

// confirm keeps the new rules. Whoever removes the file decides.
func confirm(ctx context.Context, o *options, stdout io.Writer) error {
	unlock, err := lock(ctx, o, "apply")
	if err != nil {
		return err
	}
	defer unlock()
	if err := takeFile(o, "confirm", ".json"); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New("nothing waits to be confirmed: the time has run out, or apply was run without --confirm")
		}
		return fmt.Errorf("confirm: %w", err)
	}
	if err := reloadDaemon(o); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, "confirmed: the rules stay")
	return err
}

// awaitConfirm sleeps until the deadline and rolls back if the file is still
// there. What others have written meanwhile stays. Told to end, as all that a
// login started may be when it ends, it rolls back at once: nobody would later.
func awaitConfirm(ctx context.Context, o *options) error {
	signal.Ignore(unix.SIGHUP)
	text, err := readPending(o)
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
	unlock, err := lock(ctx, o, "apply")
	if err != nil {
		return err
	}
	defer unlock()
	switch now, err := readPending(o); {
	case errors.Is(err, fs.ErrNotExist), err == nil && !bytes.Equal(now, text):
		return nil // confirmed
	case err != nil:
		return fmt.Errorf("read the former rules: %w", err)
	}
	if err := rollBack(ctx, p); err != nil {
		return err
	}
	return takeFile(o, "confirm", ".json")
}

// rollBack puts our chains and jumps back to what they were.
func rollBack(ctx context.Context, p pending) error {
	former := make(map[xfrm.Family]firewall.Save, len(p.Former))
	families := make([]xfrm.Family, 0, len(p.Former))
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		text, ok := p.Former[family]
		if !ok {
			continue
		}
		save, err := firewall.ParseSave([]byte(text))
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
	_, err = reconcile.Until(ctx, programs, func(now map[xfrm.Family]firewall.Save) (firewall.Change, error) {
		return firewall.Rollback(former, now)
	})
	if err != nil {
		return fmt.Errorf("put the former rules back: %w", err)
	}
	return nil
}
