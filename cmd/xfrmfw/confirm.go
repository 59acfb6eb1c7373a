package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/confirm"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/worker"
)

func confirmCommand(o *options) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:  "confirm",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wait {
				if err := confirm.Await(cmd.Context(), o.gateway("")); err != nil {
					worker.Log("confirm", err)
				}
				return nil
			}
			if err := confirm.Keep(cmd.Context(), o.gateway("")); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "confirmed: the rules stay")
			return err
		},
	}
	cmd.Flags().BoolVar(&wait, "worker", false, "wait for the deadline, as the background process")
	cobra.CheckErr(cmd.Flags().MarkHidden("worker"))
	return cmd
}
