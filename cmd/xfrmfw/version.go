package main

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, commit and build settings",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

// versionLine says what this binary was built from, as far as the Go toolchain
// recorded it.
func versionLine() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "xfrmfw (built without module information)"
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	words := []string{"xfrmfw", info.Main.Version}
	if rev := settings["vcs.revision"]; rev != "" {
		words = append(words, "commit", rev)
		if settings["vcs.modified"] == "true" {
			words = append(words, "(modified)")
		}
		words = append(words, settings["vcs.time"])
	}
	words = append(words, info.GoVersion, settings["GOOS"]+"/"+settings["GOARCH"])
	if settings["CGO_ENABLED"] == "0" {
		words = append(words, "static")
	}
	return strings.Join(words, " ")
}
