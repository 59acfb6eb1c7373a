package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor/gather"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

func doctorCommand(o *options) *cobra.Command {
	var asJSON bool
	var apart time.Duration
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find what on this host would defeat the rules, and how to mend it",
		Long: `doctor looks for what would defeat the rules or cut the tunnels: rules and tables
of other firewalls, kernel settings, missing parts, tunnels that are only half
there, errors that the kernel counts. Each finding says what was seen, what that
breaks, and the command or line that mends it. It changes nothing, and exits
with 3 if it found more than notes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if apart < 0 || apart > time.Hour {
				return usageError("--interval wants a time from 0s to 1h")
			}
			in, err := examine(cmd.Context(), o, apart)
			if err != nil {
				return err
			}
			r := doctor.NewReport(in)
			if asJSON {
				err = r.WriteJSON(cmd.OutOrStdout())
			} else {
				err = r.WriteText(cmd.OutOrStdout())
			}
			if err == nil && doctor.Grave(r.Findings) {
				err = errFindings
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	cmd.Flags().DurationVar(&apart, "interval", 2*time.Second, "how long to watch the kernel's error counters")
	return cmd
}

// examine reads all that the findings are made from. What can't be read is a
// finding too: a doctor that gives up when something is broken is of no use.
func examine(ctx context.Context, o *options, apart time.Duration) (doctor.Input, error) {
	host := gather.Host{Root: "/"}
	begin := time.Now()
	first, statErr := host.Counters()

	in := doctor.Input{IKE: host.IKE(), Hooked: host.Hooked(), Variant: o.variant, Distribution: host.Distribution()}
	fail := func(what string, err error, mend ...string) {
		in.Failures = append(in.Failures, doctor.Failure{What: what, Why: err.Error(), Mend: mend})
	}
	d := daemonState(o)
	in.Daemon = d.Running
	if d.LastError != "" {
		fail("the last reconcile, by "+cmp.Or(d.ReconciledBy, "xfrmfw"), errors.New(d.LastError), "xfrmfw apply    # says whether it fails still")
	}

	g, err := openGateway(ctx, o, "")
	var missing *iptables.NotFoundError
	switch {
	case errors.As(err, &missing):
		fail("look for the iptables programs", err, in.Distribution.ProgramCommand())
		if g, err = withoutPrograms(o); err != nil {
			return in, err
		}
	case err != nil:
		return in, err
	default:
		in.Variant = string(g.programs.Variant())
	}
	in.Modules, in.Capabilities = host.Modules(in.Variant), host.Capabilities(in.Variant)
	in.Config = g.config

	if g.programs != nil {
		examineRules(ctx, g, &in, fail)
	}
	if err := g.recall(); err != nil {
		fail("read the memory", err)
	}
	in.Memory = g.memory
	for _, w := range g.warnings {
		fail("read the memory", errors.New(w))
	}
	if s, err := g.reader.Read(ctx); err != nil {
		fail("read states and policies", err)
	} else {
		examineTunnels(g, s, &in, fail)
	}
	if in.NFT, err = gather.Tables(ctx); err != nil {
		in.Failures = append(in.Failures, doctor.Failure{
			What: "look at the tables of nftables", Why: err.Error(), Minor: errors.Is(err, gather.ErrNoNFT),
		})
	}
	in.Sysctl = host.Sysctl(in.Snapshot.Host.Links)

	select {
	case <-ctx.Done():
		return in, ctx.Err()
	case <-time.After(apart - time.Since(begin)):
	}
	second, err := host.Counters()
	if statErr = errors.Join(statErr, err); statErr != nil {
		// A kernel without CONFIG_XFRM_STATISTICS.
		in.Failures = append(in.Failures, doctor.Failure{What: "watch the error counters", Why: statErr.Error(), Minor: true})
	}
	in.Counters, in.Apart = [2]map[string]uint64{first, second}, time.Since(begin)
	return in, nil
}

// withoutPrograms opens the gateway where there is no iptables.
func withoutPrograms(o *options) (*gateway, error) {
	without := *o
	without.variant = ""
	g, err := openGateway(context.Background(), &without, "no file")
	if err == nil {
		g.file = ""
	}
	return g, err
}

// examineRules reads the rules of both variants.
func examineRules(ctx context.Context, g *gateway, in *doctor.Input, fail func(string, error, ...string)) {
	have, err := g.have(ctx)
	if err != nil {
		fail("read the rules", err)
		return
	}
	g.live, in.Live = have, have
	g.natSources = firewall.NATSources(have)
	rival, err := g.programs.Other(ctx)
	if err != nil {
		in.Failures = append(in.Failures, doctor.Failure{What: "look at the other iptables variant", Why: err.Error(), Minor: true})
		return
	}
	in.Other = doctor.Other{Variant: string(rival.Variant), Live: rival.Live}
}

// examineTunnels compiles the rules and compares them with the live ones.
func examineTunnels(g *gateway, s xfrm.Snapshot, in *doctor.Input, fail func(string, error, ...string)) {
	// That a routing rule looks at our bits is a finding, and no reason to stop.
	_ = g.chooseMarks(s)
	w := g.compile(s)
	in.Config, in.Snapshot, in.Set, in.Result = g.config, w.snapshot, w.set, w.result
	if in.Live == nil {
		return
	}
	change, err := firewall.Plan(w.result.Rulesets, in.Live)
	var unreadable *firewall.UnreadableError
	if err != nil && !errors.As(err, &unreadable) {
		fail("compare the rules", err)
	}
	in.Differences = change.Differences
}
