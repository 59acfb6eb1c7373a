package main

import (
	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/daemon"
)

func daemonCommand(o *options) *cobra.Command {
	var buffer int
	cmd := &cobra.Command{
		Use:  "daemon",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return daemon.Run(cmd.Context(), daemon.Options{
				Gateway: o.gateway(""), EventBuffer: buffer, Version: buildVersion(), Log: cmd.ErrOrStderr(),
			})
		},
	}
	cmd.Flags().IntVar(&buffer, "event-buffer", 0, "receive buffer of the kernel's notifications in bytes, to have some lost in tests")
	cobra.CheckErr(cmd.Flags().MarkHidden("event-buffer"))
	return cmd
}
