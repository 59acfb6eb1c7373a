package main

import (
	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

func snapshotCommand(_ *options) *cobra.Command {
	return &cobra.Command{
		Use:  "snapshot",
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
