package main

import (
	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/interrupt"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/reconcile"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
)

func clearCommand(o *options) *cobra.Command {
	var keepGuards, asJSON bool
	cmd := &cobra.Command{
		Use:  "clear",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			g, err := gateway.Open(cmd.Context(), o.gateway(""))
			if err != nil {
				return err
			}
			ctx, stop := interrupt.Context(cmd.Context())
			defer stop()
			out, err := reconcile.Clear(ctx, g, keepGuards)
			if err != nil {
				return err
			}
			r := reconcile.NewClearReport(out, keepGuards)
			if asJSON {
				err = text.WriteJSON(cmd.OutOrStdout(), r)
			} else {
				err = r.WriteText(cmd.OutOrStdout())
			}
			if err == nil && len(r.Leftovers) > 0 {
				err = errFindings
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&keepGuards, "keep-guards", false, "remove only the rules that accept")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	return cmd
}
