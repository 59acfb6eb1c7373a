package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
)

func clearCommand(o *options) *cobra.Command {
	var keepGuards bool
	cmd := &cobra.Command{
		Use:   "clear",
		Short: "Remove all of xfrmfw's rules",
		Long: `clear removes xfrmfw's chains and jumps and leaves the rest as it is. Tunnel
traffic is then what it was without xfrmfw: packets like any from the internet.
With --keep-guards what drops stays, the mangle table: nothing of ours lets
anything pass, and cleartext neither passes for tunnel traffic nor leaves in its
place. The guards stand as they were until the next apply.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan := firewall.Clear
			if keepGuards {
				plan = firewall.ClearButGuards
			}
			return clearRules(cmd.Context(), o, plan, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&keepGuards, "keep-guards", false, "leave what drops, and remove what accepts")
	return cmd
}

// clearing plans what a clear removes.
type clearing func(map[firewall.Family]firewall.Save) (firewall.Change, error)

func clearRules(ctx context.Context, o *options, plan clearing, stdout io.Writer) error {
	g, err := openGateway(ctx, o, "")
	if err != nil {
		return err
	}
	if pid, err := daemonPID(o); err != nil || pid != 0 {
		return errors.Join(err, fmt.Errorf("clear rules: the daemon, process %d, would put them back: stop it first, e.g. systemctl stop xfrmfw", pid))
	}
	unlock, err := lock(ctx, o, "apply")
	if err != nil {
		return err
	}
	defer unlock()
	var out outcome
	for range attempts {
		have, err := g.have(ctx)
		if err != nil {
			return err
		}
		change, err := plan(have)
		if err != nil {
			return err
		}
		if change.Empty() {
			return reportCleared(change, out, stdout)
		}
		switch err := g.programs.Apply(ctx, change); {
		case errors.Is(err, iptables.ErrChanged):
			continue
		case err != nil:
			return fmt.Errorf("clear rules: %w", err)
		}
		out.add(change)
	}
	return errors.New("clear rules: another program keeps changing them: stop it and run xfrmfw clear again")
}

// reportCleared says what was removed, and what could not be.
func reportCleared(change firewall.Change, out outcome, stdout io.Writer) error {
	for _, d := range change.Leftovers {
		if _, err := fmt.Fprintln(stdout, d); err != nil {
			return err
		}
	}
	line := "nothing to clear"
	if out.steps > 0 {
		line = fmt.Sprintf("cleared: %s and %s removed", text.Count(out.counts.Deleted, "chain"), text.Count(out.counts.Jumps, "jump"))
	}
	if _, err := fmt.Fprintln(stdout, line); err != nil {
		return err
	}
	if len(change.Leftovers) > 0 {
		return errFindings
	}
	return nil
}
