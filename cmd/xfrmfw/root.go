package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
)

// newRoot returns the command tree, and a flag that is set once a command has
// been entered with a command line that makes sense.
func newRoot() (*cobra.Command, *bool) {
	o := &options{}
	started := new(bool)
	root := &cobra.Command{
		Use:           "xfrmfw",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			*started = true
			o.explicit = cmd.Flags().Changed("config")
			if cmd.Name() == "hook" { // logs each error and exits with 0, because the IKE daemon waits for it
				return nil
			}
			switch iptables.Variant(o.variant) {
			case "", iptables.NFT, iptables.Legacy:
			default:
				return usageError(fmt.Sprintf("--variant %s: want nft or legacy", o.variant))
			}
			if o.engine != "" && !engine.Name(o.engine).Known() {
				return usageError(fmt.Sprintf("--engine %s: want %s", o.engine, strings.Join(engine.Names(), " or ")))
			}
			return nil
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.Version = cmp.Or(buildVersion(), "unknown")
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.Flags().Bool("version", false, "print the version")
	flags := root.PersistentFlags()
	flags.StringVar(&o.config, "config", defaultConfig, "configuration `file`")
	flags.StringVar(&o.variant, "variant", "", "iptables `variant`, nft or legacy (default: that of the host's iptables)")
	flags.StringVar(&o.engine, "engine", "", "`engine` of the rules, iptables or nftables (default: the configuration's, else iptables)")
	flags.StringVar(&o.runDir, "run-dir", defaultRunDir, "`directory` of locks, sockets and records")
	flags.StringVar(&o.stateDir, "state-dir", defaultStateDir, "`directory` of the memory, which outlives a reboot")
	root.AddCommand(
		applyCommand(o), confirmCommand(o), statusCommand(o), explainCommand(o), proveCommand(o), testCommand(o), checkCommand(o), clearCommand(o), forgetCommand(o),
		doctorCommand(o), snapshotCommand(o), configCommand(o), daemonCommand(o), hookCommand(o), versionCommand(),
	)
	noFiles(root)
	cobra.CheckErr(root.RegisterFlagCompletionFunc("variant", cobra.FixedCompletions([]string{"nft", "legacy"}, cobra.ShellCompDirectiveNoFileComp)))
	cobra.CheckErr(root.RegisterFlagCompletionFunc("engine", cobra.FixedCompletions(engine.Names(), cobra.ShellCompDirectiveNoFileComp)))
	for _, flag := range []string{"run-dir", "state-dir"} {
		cobra.CheckErr(root.MarkPersistentFlagDirname(flag))
	}
	addHelp(root)
	return root, started
}
