package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/hook"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/interrupt"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/worker"
)

func hookCommand(o *options) *cobra.Command {
	var work bool
	cmd := &cobra.Command{
		Use:  "hook",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if work {
				ctx, stop := interrupt.Context(cmd.Context())
				defer stop()
				hook.Work(ctx, o.gateway(""))
			} else if err := hook.Run(o.gateway(""), os.Environ()); err != nil {
				worker.Log("hook", err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&work, "worker", false, "do the applies, as the background process")
	cobra.CheckErr(cmd.Flags().MarkHidden("worker"))
	return cmd
}
