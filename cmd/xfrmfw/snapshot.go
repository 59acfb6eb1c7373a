package main

import (
	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

func snapshotCommand(_ *options) *cobra.Command {
	return &cobra.Command{
		Use:   "snapshot",
		Short: "Print the kernel's states and policies as JSON, without keys",
		Long: `snapshot prints what xfrmfw reads from the kernel: states and policies without
any key, and the host's links, addresses and routes. The output can be given to
apply --dry-run and status by --snapshot, on any machine.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := kernel.Read(cmd.Context())
			if err != nil {
				return err
			}
			return s.WriteJSON(cmd.OutOrStdout())
		},
	}
}
