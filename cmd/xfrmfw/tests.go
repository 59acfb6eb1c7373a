package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/proof"
)

// noTests shows how a test looks.
const noTests = "xfrmfw: the configuration has no tests; one looks like this: tests: [{in: eth0, src: 10.1.0.0/24, dst: 10.2.0.0/24, proto: tcp, expect: drop spoof}]; see xfrmfw.yaml(5)"

func testCommand(o *options) *cobra.Command {
	var file, format string
	cmd := &cobra.Command{
		Use:  "test [FILE]",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != proof.TAP && format != proof.JUnit {
				return usageError("--format " + format + ": want tap or junit")
			}
			options := o.byHand(file)
			if len(args) > 0 {
				options.Config, options.Explicit = args[0], true
			}
			g, err := gateway.Open(cmd.Context(), options)
			if err != nil {
				return err
			}
			look, err := g.Look(cmd.Context())
			if err != nil {
				return err
			}
			if len(look.Tests) == 0 {
				_, _ = fmt.Fprintln(cmd.ErrOrStderr(), noTests)
			}
			held, err := proof.WriteTests(cmd.OutOrStdout(), format, look.Tests, look.Config.Marks)
			if err == nil && !held {
				err = errFindings
			}
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", proof.TAP, "the `format` of the outcome: tap or junit")
	cmd.Flags().StringVar(&file, "snapshot", "", "read a `file` of xfrmfw snapshot in place of the kernel")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{proof.TAP, proof.JUnit}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}
