package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/interrupt"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/reconcile"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

func clearCommand(o *options) *cobra.Command {
	var keepGuards bool
	cmd := &cobra.Command{
		Use:  "clear",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			planned := plan.Clear
			if keepGuards {
				planned = plan.ClearButGuards
			}
			return clearRules(cmd.Context(), o, planned, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&keepGuards, "keep-guards", false, "leave what drops, and remove what accepts")
	return cmd
}

func clearRules(ctx context.Context, o *options, plan func(map[xfrm.Family]live.Tables) (plan.Change, error), stdout io.Writer) error {
	g, err := gateway.Open(ctx, o.gateway(""))
	if err != nil {
		return err
	}
	if pid, err := o.dirs().DaemonPID(); err != nil || pid != 0 {
		return errors.Join(err, fmt.Errorf("clear rules: the daemon, process %d, would put them back: stop it first, e.g. systemctl stop xfrmfw", pid))
	}
	ctx, stop := interrupt.Context(ctx)
	defer stop()
	unlock, err := o.dirs().Lock(ctx, "apply")
	if err != nil {
		return err
	}
	defer unlock()
	out, err := reconcile.Until(ctx, g.Programs(), plan)
	if err != nil {
		return fmt.Errorf("clear rules: %w", err)
	}
	return reportCleared(out, stdout)
}

// reportCleared prints the counts of what was removed, and what could not be removed.
func reportCleared(out reconcile.Outcome, stdout io.Writer) error {
	leftovers := out.Look.Change.Leftovers
	for _, d := range leftovers {
		if _, err := fmt.Fprintln(stdout, d); err != nil {
			return err
		}
	}
	line := "nothing to clear"
	if out.Steps > 0 {
		line = fmt.Sprintf("cleared: %s and %s removed", text.Count(out.Counts.Deleted, "chain"), text.Count(out.Counts.Jumps, "jump"))
	}
	if _, err := fmt.Fprintln(stdout, line); err != nil {
		return err
	}
	if len(leftovers) > 0 {
		return errFindings
	}
	return nil
}
