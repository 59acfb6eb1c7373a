package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/explain"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
)

func explainCommand(o *options) *cobra.Command {
	var given explain.Flags
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:  "explain --src ADDRESS --dst ADDRESS --proto PROTOCOL [--dport PORT] [--in INTERFACE] [--out INTERFACE]",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := given.Query(cmd.Flags().Changed)
			if err != nil {
				return usageError(err.Error())
			}
			e, err := explainPacket(cmd.Context(), o, file, q)
			if err != nil {
				return err
			}
			if asJSON {
				return e.WriteJSON(cmd.OutOrStdout())
			}
			return e.WriteText(cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&given.Src, "src", "", "source `address`")
	f.StringVar(&given.Dst, "dst", "", "destination `address`")
	f.StringVar(&given.In, "in", "", "`interface` that it comes in by")
	f.StringVar(&given.Out, "out", "", "`interface` that it leaves by")
	f.StringVar(&given.Proto, "proto", "", "`protocol`: tcp, udp, sctp, icmp, esp, ah, gre and so on, or a number")
	f.Uint16Var(&given.SPort, "sport", 0, "source `port` (default: a client's)")
	f.Uint16Var(&given.DPort, "dport", 0, "destination `port`")
	f.StringVar(&given.ICMPType, "icmp-type", "", "ICMP `type` or type/code (default: an echo request)")
	f.StringVar(&given.Ct, "ctstate", explain.CtNew, "`state` of its flow in conntrack: new, established or related")
	f.Uint32Var(&given.Reqid, "reqid", 0, "an SA with this `reqid` decrypted it")
	f.BoolVar(&given.Tag, "tag", false, "it carries TAG")
	f.Uint32Var(&given.Mark, "mark", 0, "it carries this fwmark, such as VERIFIED on a device inside a tunnel")
	f.BoolVar(&asJSON, "json", false, "print the explanation as JSON")
	f.StringVar(&file, "snapshot", "", "read a `file` of xfrmfw snapshot in place of the kernel and the live rules")
	for _, flag := range []string{"in", "out"} {
		cobra.CheckErr(cmd.RegisterFlagCompletionFunc(flag, completeInterfaces))
	}
	states := []string{explain.CtNew, explain.CtEstablished, explain.CtRelated}
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("ctstate", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp)))
	for _, flag := range []string{"src", "dst", "proto", "sport", "dport", "icmp-type", "reqid", "mark"} {
		cobra.CheckErr(cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions))
	}
	return cmd
}

func explainPacket(ctx context.Context, o *options, snapshot string, q explain.Query) (explain.Explanation, error) {
	g, err := gateway.Open(ctx, o.report(snapshot))
	if err != nil {
		return explain.Explanation{}, err
	}
	look, err := g.Look(ctx)
	if err != nil {
		return explain.Explanation{}, err
	}
	world := explain.World{Snapshot: look.Snapshot, Set: look.Set, Result: look.Result, Marks: look.Config.Marks, Warnings: look.Warnings}
	world.Result.Rulesets = look.ProvableRules()
	world.Beside = look.Engine == engine.IPTables && len(look.Table.Chains) > 0
	if !g.FromSnapshot() {
		if look.Engine == engine.IPTables { // the table of nftables is laid out as rules, which are not live
			world.Live, world.Differences = look.Live.Rules, look.Change.Differences
		}
		world.Warnings = append(world.Warnings, look.MarkWarnings()...)
	}
	e, err := world.Explain(q)
	if err != nil {
		return explain.Explanation{}, usageError(err.Error())
	}
	return e, nil
}
