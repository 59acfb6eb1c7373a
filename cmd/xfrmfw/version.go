package main

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// The version and commit that scripts/package has the linker write. Empty in other builds, which
// have the record of the Go toolchain.
var version, commit string

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:  "version",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				info = &debug.BuildInfo{}
			}
			_, err := fmt.Fprint(cmd.OutOrStdout(), versionText(*info, version, commit))
			return err
		},
	}
}

// versionText names the source of a binary. The version and the commit are
// those that were given, else those that the Go toolchain recorded.
func versionText(info debug.BuildInfo, version, commit string) string {
	settings := map[string]string{}
	var others []string
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
		switch {
		case s.Value == "", strings.HasPrefix(s.Key, "vcs"), s.Key == "GOOS", s.Key == "GOARCH", s.Key == "DefaultGODEBUG":
		default:
			others = append(others, s.Key+"="+s.Value)
		}
	}
	if version == "" {
		version = strings.Trim(info.Main.Version, "()")
	}
	if commit == "" {
		commit = settings["vcs.revision"]
		if settings["vcs.modified"] == "true" {
			commit += " (modified)"
		}
	}
	var b strings.Builder
	line := func(name, value string) {
		if value = strings.TrimSpace(value); value != "" {
			fmt.Fprintf(&b, "%-9s%s\n", name, value)
		}
	}
	line("xfrmfw", version)
	line("commit", commit)
	line("go", strings.TrimSuffix(info.GoVersion+" "+settings["GOOS"]+"/"+settings["GOARCH"], " /"))
	slices.Sort(others)
	line("settings", strings.Join(others, " "))
	return b.String()
}

// buildVersion is the version that was linked in, or that of the module.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return strings.Trim(info.Main.Version, "()")
}
