package main

import (
	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/daemon"
)

func daemonCommand(o *options) *cobra.Command {
	var buffer int
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Keep the rules in line with the kernel's states and policies",
		Long: `daemon applies, and then again whenever the kernel's states, policies, links,
addresses or routes change, when a hook says that they did, and when others
change its rules. SIGHUP has it read its configuration again; with a bad one the
former stays. When it ends the rules stay in force.`,
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
