package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
)

func checkCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Tell whether the live rules are those that apply would make",
		Long: `check compares the live rules with what the kernel's states and policies ask
for, names each difference, and exits with 3 if there is one. It changes nothing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			g, err := openGateway(ctx, o, "")
			if err != nil {
				return err
			}
			w, _, change, err := g.look(ctx)
			if err != nil {
				return err
			}
			for _, warning := range append(append(g.warnings, g.markWarnings()...), w.result.Warnings...) {
				_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "xfrmfw: warning: "+warning)
			}
			out := cmd.OutOrStdout()
			if change.Empty() {
				_, err := fmt.Fprintf(out, "in sync: %s\n", text.Count(len(w.set.Tunnels), "tunnel"))
				return err
			}
			for _, d := range change.Differences {
				if _, err := fmt.Fprintln(out, d); err != nil {
					return err
				}
			}
			_, _ = fmt.Fprintf(out, "out of sync: %s; xfrmfw apply mends it\n", text.Count(len(change.Differences), "difference"))
			return errFindings
		},
	}
}
