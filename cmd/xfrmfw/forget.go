package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/confirm"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/interrupt"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/reconcile"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
)

func forgetCommand(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "forget TUNNEL|PREFIX",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError("forget wants one tunnel ID or prefix; xfrmfw status lists the guarded pairs")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			selected, err := reconcile.ParseForgettable(args[0])
			if err != nil {
				return usageError(err.Error())
			}
			g, err := gateway.Open(cmd.Context(), o.gateway(""))
			if err != nil {
				return err
			}
			ctx, stop := interrupt.Context(cmd.Context())
			defer stop()
			forgotten, warning, err := reconcile.Forget(ctx, g, selected)
			if warning != "" {
				warn(cmd.ErrOrStderr(), []string{warning})
			}
			if err != nil {
				return err
			}
			stdout := cmd.OutOrStdout()
			if !asJSON {
				count := text.Count(forgotten.Pairs, "pair")
				if forgotten.Lines > 0 {
					count += ", " + text.Count(forgotten.Lines, "line")
				}
				if _, err := fmt.Fprintf(stdout, "forgotten: %s\n", count); err != nil {
					return err
				}
			}
			out, err := confirm.Reconcile(ctx, g, "apply", true)
			if err != nil {
				return err
			}
			if asJSON {
				return text.WriteJSON(stdout, reconcile.NewForgetReport(forgotten, out))
			}
			warn(cmd.ErrOrStderr(), out.AllWarnings())
			_, err = fmt.Fprintln(stdout, out)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	cmd.ValidArgsFunction = completeTunnels(o)
	return cmd
}
