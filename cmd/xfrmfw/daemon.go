package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/daemon"
)

func daemonCommand(o *options) *cobra.Command {
	var buffer int
	var limit time.Duration
	cmd := &cobra.Command{
		Use:  "daemon",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return daemon.Run(cmd.Context(), daemon.Options{
				Gateway: o.gateway(""), EventBuffer: buffer, WatchdogLimit: limit, Version: buildVersion(), Log: cmd.ErrOrStderr(),
			})
		},
	}
	cmd.Flags().IntVar(&buffer, "event-buffer", 0, "receive buffer of the kernel's notifications in bytes, to have some lost in tests")
	cmd.Flags().DurationVar(&limit, "watchdog-limit", 0, "how long the loop may work at one thing before the watchdog is no longer told, for tests")
	for _, hidden := range []string{"event-buffer", "watchdog-limit"} {
		cobra.CheckErr(cmd.Flags().MarkHidden(hidden))
	}
	return cmd
}
