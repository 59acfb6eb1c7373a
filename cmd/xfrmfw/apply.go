package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/reconcile"
	"github.com/xfrmfw/xfrmfw/firewall"
)

func applyCommand(o *options) *cobra.Command {
	var dryRun, diff bool
	var file string
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the rules those that the kernel's states and policies ask for",
		Long: `apply reads the kernel's states and policies once and makes the live rules what
they ask for. It changes chains of its own and its jumps, nothing else. Each
table is committed as a whole; if one fails, the former rules are put back.
With nothing to change it runs no iptables-restore and says so.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case dryRun && cmd.Flags().Changed("confirm"):
				return usageError("--dry-run changes nothing that could be confirmed")
			case diff && !dryRun:
				return usageError("--diff goes with --dry-run")
			case file != "" && !dryRun:
				return usageError("--snapshot goes with --dry-run: rules are only ever applied from the kernel's own word")
			case dryRun:
				return dryRunApply(cmd.Context(), o, file, diff, cmd.OutOrStdout())
			case cmd.Flags().Changed("confirm"):
				if limit < time.Second || limit > time.Hour {
					return usageError("--confirm wants a time from 1s to 1h")
				}
				return applyUntilConfirmed(cmd.Context(), o, limit, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			return apply(cmd.Context(), o, "apply", cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be fed to iptables-restore, and change nothing")
	cmd.Flags().BoolVar(&diff, "diff", false, "with --dry-run: print what would change, rule by rule")
	cmd.Flags().DurationVar(&limit, "confirm", 0, "put the former rules back after this `time`, such as 60s, unless xfrmfw confirm is run")
	cmd.Flags().StringVar(&file, "snapshot", "", "with --dry-run: a `file` in place of the kernel, with no rules standing")
	return cmd
}

// apply reconciles once, for the command that is recorded as by.
func apply(ctx context.Context, o *options, by string, stdout, stderr io.Writer) error {
	g, err := gateway.Open(ctx, o.gateway(""))
	if err != nil {
		return err
	}
	unlock, err := lock(ctx, o, "apply")
	if err != nil {
		return err
	}
	defer unlock()
	return applyLocked(ctx, o, g, by, stdout, stderr)
}

// applyLocked is apply under a lock that the caller holds.
func applyLocked(ctx context.Context, o *options, g *gateway.Gateway, by string, stdout, stderr io.Writer) (err error) {
	defer func() { note(o, by, err) }()
	// An interactive apply fails if enforce can't be in force. The hook applies without it:
	// it has no user to tell, and current rules matter more.
	interactive := by == "apply"
	out, err := reconcile.Once(ctx, g, reconcile.Options{RequireEnforce: interactive})
	if err != nil {
		return err
	}
	warnings := out.Warnings
	if pid, _ := daemonPID(o); out.Look.Config.Enforce && interactive && pid == 0 {
		warnings = append(warnings, "cross_check: enforce needs the daemon, which leaves it when a module is loaded that keeps packets from being tagged; without one, these are dropped from then on")
	}
	warn(stderr, warnings, out.Look)
	if interactive {
		if err := reloadDaemon(o); err != nil {
			_, _ = fmt.Fprintln(stderr, "xfrmfw: warning: "+err.Error())
		}
	}
	_, err = fmt.Fprintln(stdout, out)
	return err
}

// warn prints warnings, and those of a look.
func warn(stderr io.Writer, warnings []string, l gateway.Look) {
	for _, w := range slices.Concat(warnings, l.MarkWarnings(), l.Result.Warnings) {
		_, _ = fmt.Fprintln(stderr, "xfrmfw: warning: "+w)
	}
}

func dryRunApply(ctx context.Context, o *options, snapshot string, diff bool, stdout io.Writer) error {
	g, err := gateway.Open(ctx, o.gateway(snapshot))
	if err != nil {
		return err
	}
	look, err := g.Look(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	switch {
	case look.Change.Empty():
		b.WriteString("# nothing to change\n")
	case diff:
		b.WriteString(reconcile.DiffText(firewall.Compare(look.Result.Rulesets, look.Live.Rules), look.Names()))
	default:
		for _, s := range look.Change.Steps {
			fmt.Fprintf(&b, "# %s %s\n%s", s.Family, s.Table, s.Text)
		}
	}
	_, err = io.WriteString(stdout, b.String())
	return err
}
