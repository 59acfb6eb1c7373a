package main

import (
	"fmt"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/confirm"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/interrupt"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/worker"
)

func confirmCommand(o *options) *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:  "confirm",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wait {
				// All signals are caught to the end: a rollback that has begun is finished.
				ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
				defer stop()
				if err := confirm.Await(ctx, o.gateway("")); err != nil {
					worker.Log("confirm", err)
				}
				return nil
			}
			ctx, stop := interrupt.Context(cmd.Context())
			defer stop()
			if err := confirm.Keep(ctx, o.gateway("")); err != nil {
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
