package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status/gather"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/watch"
)

func statusCommand(o *options) *cobra.Command {
	var asJSON, all, rules, verbose bool
	var file string
	var interval time.Duration
	cmd := &cobra.Command{
		Use: "status [TUNNEL...]",
		RunE: func(cmd *cobra.Command, names []string) error {
			g, err := gateway.Open(cmd.Context(), o.report(file))
			if err != nil {
				return err
			}
			read := func(ctx context.Context) (status.Report, error) {
				r, err := gather.Report(ctx, g, gather.Daemon(o.dirs()), !asJSON && !verbose)
				if err != nil || len(names) == 0 {
					return r, err
				}
				if r, err = r.Select(names); err != nil {
					return r, usageError(err.Error())
				}
				return r, nil
			}
			if cmd.Flags().Changed("watch") {
				if err := watchable(interval, file, names, all || rules || verbose); err != nil {
					return err
				}
				return watch.Run(cmd.Context(), watch.Options{
					Interval: interval, JSON: asJSON, Read: read, Stdout: cmd.OutOrStdout(), Stderr: cmd.ErrOrStderr(),
				})
			}
			r, err := read(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return r.WriteJSON(cmd.OutOrStdout())
			}
			return r.WriteText(cmd.OutOrStdout(), status.TextOptions{All: all, Rules: rules, Verbose: verbose})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.Flags().BoolVar(&all, "all", false, "show the details of all tunnels, however many")
	cmd.Flags().BoolVar(&rules, "rules", false, "show the rules of each tunnel, with their counters")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "show the text of the rules, and the shared ones")
	cmd.Flags().StringVar(&file, "snapshot", "", "read a `file` of xfrmfw snapshot in place of the kernel and the live rules")
	cmd.Flags().DurationVar(&interval, "watch", 2*time.Second, "show rates, again after each `interval`")
	cmd.Flags().Lookup("watch").NoOptDefVal = "2s"
	cmd.ValidArgsFunction = completeTunnels(o)
	return cmd
}

// watchable refuses options that --watch can't show.
func watchable(interval time.Duration, file string, names []string, details bool) error {
	for _, name := range names {
		if _, err := time.ParseDuration(name); err == nil && name != "0" {
			return usageError(fmt.Sprintf("%s is taken for a tunnel: an interval is written --watch=%s", name, name))
		}
	}
	switch {
	case interval < 200*time.Millisecond || interval > time.Hour:
		return usageError("--watch wants an interval from 200ms to 1h")
	case file != "":
		return usageError("--watch shows changes: a snapshot has none")
	case details:
		return usageError("--watch shows a line for each tunnel: leave out --all and --verbose")
	}
	return nil
}
