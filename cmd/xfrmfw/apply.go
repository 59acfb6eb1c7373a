package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
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

// apply reconciles once, for the command that is noted as by.
func apply(ctx context.Context, o *options, by string, stdout, stderr io.Writer) error {
	g, err := openGateway(ctx, o, "")
	if err != nil {
		return err
	}
	unlock, err := lock(ctx, o, "apply")
	if err != nil {
		return err
	}
	defer unlock()
	return g.applyLocked(ctx, o, by, stdout, stderr)
}

// applyLocked is apply for who holds the lock.
func (g *gateway) applyLocked(ctx context.Context, o *options, by string, stdout, stderr io.Writer) (err error) {
	defer func() { note(o, by, err) }()
	// Who asks for enforce shall know that he can't have it; a hook can't tell
	// anybody, and rules without it are better than old ones.
	g.insist = by == "apply"
	out, err := g.reconcile(ctx)
	if err != nil {
		return err
	}
	if pid, _ := daemonPID(o); g.config.Enforce && g.insist && pid == 0 {
		g.warnings = append(g.warnings, "cross_check: enforce needs the daemon, which leaves it when a module is loaded that keeps packets from being tagged; without one, these are dropped from then on")
	}
	for _, warning := range append(append(g.warnings, g.markWarnings()...), out.wanted.result.Warnings...) {
		_, _ = fmt.Fprintln(stderr, "xfrmfw: warning: "+warning)
	}
	if by == "apply" {
		if err := reloadDaemon(o); err != nil {
			_, _ = fmt.Fprintln(stderr, "xfrmfw: warning: "+err.Error())
		}
	}
	_, err = fmt.Fprintln(stdout, summary(out))
	return err
}

// summary is the line that an apply ends with.
func summary(out outcome) string {
	up := 0
	for _, t := range out.wanted.set.Tunnels {
		if t.Up() {
			up++
		}
	}
	tunnels := fmt.Sprintf("%s (%d up)", text.Count(len(out.wanted.set.Tunnels), "tunnel"), up)
	if out.steps == 0 {
		return "no change: " + tunnels + "; rules in sync"
	}
	pairs := map[[2]netip.Prefix]bool{}
	for _, g := range out.wanted.result.Guards {
		if !g.Pierce {
			pairs[[2]netip.Prefix{g.Local, g.Remote}] = true
		}
	}
	c, done := out.counts, ""
	switch {
	case c.Rules > 0:
		done = text.Count(c.Rules, "rule") + " written"
	case c.Jumps > 0:
		done = text.Count(c.Jumps, "jump") + " set"
	default:
		done = fmt.Sprintf("%s emptied, %s deleted", text.Count(c.Written, "chain"), text.Count(c.Deleted, "chain"))
	}
	var families []string
	for _, f := range out.families {
		families = append(families, f.String())
	}
	slices.Sort(families)
	return fmt.Sprintf("applied: %s, %s; %s, %s", tunnels, text.Count(len(pairs), "guarded pair"), done, strings.Join(families, " and "))
}

func dryRunApply(ctx context.Context, o *options, file string, diff bool, stdout io.Writer) error {
	g, err := openGateway(ctx, o, file)
	if err != nil {
		return err
	}
	w, have, change, err := g.look(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	switch {
	case change.Empty():
		b.WriteString("# nothing to change\n")
	case diff:
		b.WriteString(diffText(firewall.Compare(w.result.Rulesets, have), names(w)))
	default:
		for _, s := range change.Steps {
			fmt.Fprintf(&b, "# %s %s\n%s", s.Family, s.Table, s.Text)
		}
	}
	_, err = io.WriteString(stdout, b.String())
	return err
}
