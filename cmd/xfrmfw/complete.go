package main

import (
	"context"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
)

// completionLimit is how long a shell waits for words while the user types.
const completionLimit = 2 * time.Second

// noFiles has a shell offer no files for the arguments of the commands, and none for
// flags but those that take one.
func noFiles(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.ValidArgsFunction == nil && !cmd.HasSubCommands() {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
		for _, flag := range []string{"interval", "watch", "confirm"} {
			if cmd.Flags().Lookup(flag) != nil {
				cobra.CheckErr(cmd.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions))
			}
		}
	}
}

// completeTunnels offers the names and IDs of the tunnels that the kernel has, and of
// those that are guarded. Without the rights to read them it offers nothing.
func completeTunnels(o *options) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionLimit)
		defer cancel()
		o.explicit = cmd.Flags().Changed("config")
		g, err := gateway.OpenWithoutPrograms(o.gateway(""))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		remembered, _ := g.ReadMemory()
		look, err := g.Read(ctx, gateway.Live{Memory: remembered})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		words := slices.Collect(maps.Values(look.Names()))
		for _, t := range look.Set.Tunnels {
			words = append(words, t.ID)
		}
		for _, guard := range look.Result.InForce() {
			if guard.Tunnel != "" {
				words = append(words, guard.Tunnel)
			}
		}
		slices.Sort(words)
		return slices.Compact(words), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeInterfaces offers the interfaces of this host.
func completeInterfaces(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	links, _ := net.Interfaces()
	var names []string
	for _, l := range links {
		names = append(names, l.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
