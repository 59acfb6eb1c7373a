package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/config"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/confirm"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/interrupt"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/proof"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/reconcile"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
)

func applyCommand(o *options) *cobra.Command {
	var dryRun, diff, asJSON, unattended bool
	var file string
	var limit time.Duration
	cmd := &cobra.Command{
		Use:  "apply",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			confirmed := cmd.Flags().Changed("confirm")
			switch {
			case dryRun && confirmed:
				return usageError("--dry-run changes nothing that could be confirmed")
			case diff && !dryRun:
				return usageError("--diff goes with --dry-run")
			case file != "" && !dryRun:
				return usageError("--snapshot goes with --dry-run: rules are only applied from the kernel itself")
			case unattended && (dryRun || confirmed):
				return usageError("--unattended goes with neither --dry-run nor --confirm")
			case asJSON && dryRun:
				return usageError("--json goes without --dry-run, which prints the input of iptables-restore")
			case confirmed && (limit < time.Second || limit > time.Hour):
				return usageError("--confirm wants a time from 1s to 1h")
			case dryRun:
				return dryRunApply(cmd.Context(), o, file, diff, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			options := o.byHand("")
			if unattended {
				options = o.gateway("")
			}
			g, err := gateway.Open(cmd.Context(), options)
			if err != nil {
				return unchanged(err)
			}
			ctx, stop := interrupt.Context(cmd.Context())
			defer stop()
			var out reconcile.Outcome
			if confirmed {
				out, err = confirm.Apply(ctx, g, limit)
			} else {
				out, err = confirm.Reconcile(ctx, g, "apply", true)
			}
			if err != nil {
				return err
			}
			if asJSON {
				r := out.Report()
				if confirmed {
					r.ConfirmSeconds = int(limit.Seconds())
				}
				return text.WriteJSON(cmd.OutOrStdout(), r)
			}
			warn(cmd.ErrOrStderr(), out.AllWarnings())
			answer := strings.Join(append([]string{out.String()}, out.OwnLines()...), "\n") + "\n"
			if confirmed {
				answer += fmt.Sprintf("run xfrmfw confirm within %s, or the former rules come back\n", limit)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), answer)
			return err
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the rules as nft and iptables-restore read them, and change nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	cmd.Flags().BoolVar(&diff, "diff", false, "with --dry-run: print the changes for packets and rule by rule")
	cmd.Flags().DurationVar(&limit, "confirm", 0, "put the former rules back after this `time`, such as 60s, unless xfrmfw confirm is run")
	cmd.Flags().BoolVar(&unattended, "unattended", false, "for units and scripts: leave out a configuration that was not confirmed")
	cmd.Flags().StringVar(&file, "snapshot", "", "with --dry-run: read a `file` of xfrmfw snapshot in place of the kernel, as on a host without rules")
	return cmd
}

// unchanged adds to a mistake in the configuration that the apply changed nothing.
func unchanged(err error) error {
	var bad *config.Error
	if errors.As(err, &bad) {
		err = errors.Join(err, errors.New("nothing was changed"))
	}
	return err
}

// warn prints warnings.
func warn(stderr io.Writer, warnings []string) {
	for _, w := range warnings {
		_, _ = fmt.Fprintln(stderr, "xfrmfw: warning: "+w)
	}
}

func dryRunApply(ctx context.Context, o *options, snapshot string, diff bool, stdout, stderr io.Writer) error {
	g, err := gateway.Open(ctx, o.byHand(snapshot))
	if err != nil {
		return err
	}
	look, err := g.Look(ctx)
	if err != nil {
		return err
	}
	warn(stderr, look.AllWarnings())
	var b strings.Builder
	switch {
	case look.InSync():
		b.WriteString("# nothing to change\n")
	case diff:
		before, after := liveSubject(look), wantedSubject(look)
		b.WriteString(proof.Changes(&look.Result.Facts, devices(look.Snapshot.Host), before, after))
		b.WriteString(reconcile.Diff(look))
	default:
		b.WriteString(reconcile.TableText(look))
		for _, s := range look.Change.Steps {
			fmt.Fprintf(&b, "# %s %s\n%s", s.Family, s.Table, s.Text)
		}
	}
	_, err = io.WriteString(stdout, b.String())
	return err
}
