package main

import (
	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/proof"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

func proveCommand(o *options) *cobra.Command {
	var verbose, asJSON bool
	var file string
	cmd := &cobra.Command{
		Use:  "prove",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g, err := gateway.Open(cmd.Context(), o.report(file))
			if err != nil {
				return err
			}
			look, err := g.Look(cmd.Context())
			if err != nil {
				return err
			}
			step, end := proof.Progress(cmd.ErrOrStderr())
			r := proof.Make(&look.Result.Facts, devices(look.Snapshot.Host), subjects(look, g.FromSnapshot()), step)
			end()
			r.Warnings = append(r.Warnings, look.AllWarnings()...)
			if asJSON {
				err = text.WriteJSON(cmd.OutOrStdout(), r)
			} else {
				warn(cmd.ErrOrStderr(), r.Warnings)
				err = r.WriteText(cmd.OutOrStdout(), verbose)
			}
			if err == nil && !r.Holds {
				err = errFindings
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&verbose, "verbose", false, "list all properties, each with the packets that it leaves out")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	cmd.Flags().StringVar(&file, "snapshot", "", "a `file` in place of the kernel; live rules are then not read")
	return cmd
}

// subjects are the wanted rules and, where some stand that differ, those too.
func subjects(look gateway.Look, fromSnapshot bool) []proof.Subject {
	wanted, standing := proof.Subject{Name: "wanted", Table: look.Table}, look.Live.Table.Table
	if look.Engine != engine.IPTables {
		list := []proof.Subject{wanted}
		if len(standing.Chains) > 0 && !look.TableChange.Empty() {
			list = append(list, proof.Subject{Name: "live", Table: standing})
		}
		return list
	}
	wanted.Rules = look.Result.Rulesets
	list := []proof.Subject{wanted}
	if fromSnapshot || look.InSync() {
		return list
	}
	var found []rules.Ruleset
	hooks := 0
	for _, rs := range look.Result.Rulesets {
		match := live.Match(rs, look.Live.Rules[rs.Family]).Ruleset
		hooks += len(match.Hooks)
		found = append(found, match)
	}
	if hooks == 0 { // nothing is loaded
		return list
	}
	return append(list, proof.Subject{Name: "live", Rules: found, Table: standing})
}

func devices(host xfrm.Host) []string {
	names := make([]string, len(host.Links))
	for i, l := range host.Links {
		names[i] = l.Name
	}
	return names
}
