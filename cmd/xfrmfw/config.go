package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/config"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
)

func configCommand(o *options) *cobra.Command {
	cmd := &cobra.Command{Use: "config"}
	cmd.AddCommand(&cobra.Command{
		Use:   "check [FILE]",
		Short: "Report the mistakes of a configuration file",
		Long:  "check reads a configuration file, --config if none is named, and reports its mistakes by line and column. It needs neither root nor the kernel.",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, explicit := o.config, o.explicit
			if len(args) > 0 {
				file, explicit = args[0], true
			}
			c, err := config.Load(file, explicit)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "valid: %s, %s\n",
				text.Count(len(c.Firewall.Tunnels), "configured tunnel"), text.Count(len(c.Firewall.Guard.Pairs), "guarded pair"))
			return err
		},
	}, &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of the configuration file",
		Long:  "schema prints the JSON schema of the configuration file, by which editors complete its words and mark mistakes. It needs neither root nor the kernel.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema, err := config.Schema()
			if err != nil {
				return fmt.Errorf("print schema: %w", err)
			}
			_, err = cmd.OutOrStdout().Write(schema)
			return err
		},
	})
	return cmd
}
