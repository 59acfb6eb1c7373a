package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
)

func statusCommand(o *options) *cobra.Command {
	var asJSON, all, verbose bool
	var file string
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "status [TUNNEL...]",
		Short: "Show the tunnels, their states and the rules that serve them",
		Long: `status shows every tunnel with its states and the rules that serve each of them,
with packets and bytes; then what was dropped, what is guarded, and what is
amiss. With many tunnels it shows a line for each, and the details of those that
are named: by ID, name, connection, reqid, or the peer's identity or address.

With --watch it shows a line for each tunnel, again and again, with packets and
bytes a second: in place on a terminal, where q or Ctrl-C ends it, else below
each other, and with --json one report a line.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			g, err := openGateway(cmd.Context(), o, file)
			if err != nil {
				return err
			}
			read := func(ctx context.Context) (status.Report, error) {
				return g.selected(ctx, o, names, !asJSON && !verbose)
			}
			if cmd.Flags().Changed("watch") {
				if err := watchable(interval, file, names, all || verbose); err != nil {
					return err
				}
				w := watch{interval: interval, asJSON: asJSON, read: read, stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr()}
				return w.run(cmd.Context())
			}
			r, err := read(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return r.WriteJSON(cmd.OutOrStdout())
			}
			return r.WriteText(cmd.OutOrStdout(), status.TextOptions{All: all, Verbose: verbose})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.Flags().BoolVar(&all, "all", false, "show the details of all tunnels, however many")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "show the text of the rules, and the shared ones")
	cmd.Flags().StringVar(&file, "snapshot", "", "a `file` in place of the kernel; live rules are then not read")
	cmd.Flags().DurationVar(&interval, "watch", 2*time.Second, "show rates, again after each `interval`")
	cmd.Flags().Lookup("watch").NoOptDefVal = "2s"
	return cmd
}

// watchable refuses what --watch can't show.
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
		return usageError("--watch shows what changes: a snapshot does not")
	case details:
		return usageError("--watch shows a line for each tunnel: leave out --all and --verbose")
	}
	return nil
}

// selected is the report on the named tunnels, or on all.
func (g *gateway) selected(ctx context.Context, o *options, names []string, terse bool) (status.Report, error) {
	g.warnings = nil
	r, err := g.report(ctx, o, terse)
	if err != nil || len(names) == 0 {
		return r, err
	}
	if r, err = r.Select(names); err != nil {
		return r, usageError(err.Error())
	}
	return r, nil
}

// report reads the kernel and the live rules and makes one report of both, which
// is terse without the text of the rules.
func (g *gateway) report(ctx context.Context, o *options, terse bool) (status.Report, error) {
	have, err := g.haveMeanwhile(ctx)
	if err != nil {
		return status.Report{}, err
	}
	collected := make(chan status.Rules, 1)
	go func() { collected <- status.Collect(have, terse) }()
	rivals := make(chan []string, 1)
	if g.file == "" {
		go func() { rivals <- g.rival(ctx) }()
	}
	g.tracker.Observed(have)
	w, change, err := g.plan(ctx)
	if err != nil {
		return status.Report{}, err
	}
	in := status.Input{Snapshot: w.snapshot, Set: w.set, Marks: g.config.Marks, Result: w.result, Warnings: g.warnings, Peers: shown(w.peers)}
	if g.file != "" {
		return status.Build(in), nil
	}
	rules := <-collected
	in.Live, in.Rules, in.Daemon = have, &rules, daemonState(o)
	for _, d := range change.Differences {
		in.Differences = append(in.Differences, d.String())
	}
	in.Variant = string(g.programs.Variant())
	in.Warnings = append(append(in.Warnings, g.markWarnings()...), <-rivals...)
	in.Warnings = append(in.Warnings, doctor.Evident(doctor.Input{
		Snapshot: w.snapshot, Set: w.set, Config: g.config, Result: w.result, Live: have,
	})...)
	return status.Build(in), nil
}

// rival warns of rules of the other iptables variant, which the kernel runs too.
func (g *gateway) rival(ctx context.Context) []string {
	r, err := g.programs.Other(ctx)
	if err != nil {
		// Programs without a kernel that knows them, usually; no reason to show nothing.
		return []string{fmt.Sprintf("look at the other iptables variant: %v", err)}
	}
	var warnings []string
	if len(r.Chains) > 0 {
		warnings = append(warnings, fmt.Sprintf("iptables-%s holds rules of xfrmfw too: run xfrmfw clear --variant %s", r.Variant, r.Variant))
	}
	for _, m := range r.Marks {
		warnings = append(warnings, fmt.Sprintf("iptables-%s writes the packet mark as well: %s", r.Variant, m))
	}
	return warnings
}
