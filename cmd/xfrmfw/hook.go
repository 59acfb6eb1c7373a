package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/hook"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/worker"
)

func hookCommand(o *options) *cobra.Command {
	var work bool
	cmd := &cobra.Command{
		Use:   "hook",
		Short: "Have the rules follow a change, from an IKE daemon's updown script",
		Long: `hook nudges the daemon; where none runs, it starts one apply in the background.
It returns at once, since the IKE daemon waits for it. Any number of calls at
once come to one or two applies. It always exits with 0: trouble is reported to
syslog, and never fails the tunnel.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if work {
				hook.Work(cmd.Context(), o.gateway(""))
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
