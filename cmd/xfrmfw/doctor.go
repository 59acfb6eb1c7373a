package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor/gather"
	statusgather "github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status/gather"
)

func doctorCommand(o *options) *cobra.Command {
	var asJSON bool
	var apart time.Duration
	cmd := &cobra.Command{
		Use:  "doctor",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if apart < 0 || apart > time.Hour {
				return usageError("--interval wants a time from 0s to 1h")
			}
			in, err := gather.Examine(cmd.Context(), o.report(""), statusgather.Daemon(o.dirs()), apart)
			if err != nil {
				return err
			}
			r := doctor.NewReport(in)
			if asJSON {
				err = r.WriteJSON(cmd.OutOrStdout())
			} else {
				err = r.WriteText(cmd.OutOrStdout())
			}
			if err == nil && doctor.Grave(r.Findings) {
				err = errFindings
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	cmd.Flags().DurationVar(&apart, "interval", 2*time.Second, "how long to watch the kernel's error counters")
	return cmd
}
