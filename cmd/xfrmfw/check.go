package main

import (
	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/reconcile"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
)

func checkCommand(o *options) *cobra.Command {
	var verbose, asJSON bool
	cmd := &cobra.Command{
		Use:  "check",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g, err := gateway.Open(cmd.Context(), o.report(""))
			if err != nil {
				return err
			}
			look, err := g.Look(cmd.Context())
			if err != nil {
				return err
			}
			r := reconcile.NewCheckReport(look)
			if asJSON {
				err = text.WriteJSON(cmd.OutOrStdout(), r)
			} else {
				warn(cmd.ErrOrStderr(), r.Warnings)
				err = r.WriteText(cmd.OutOrStdout(), verbose)
			}
			if err == nil && !r.InSync {
				err = errFindings
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&verbose, "verbose", false, "list all differences, also where no rule is loaded")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the comparison as JSON")
	return cmd
}
