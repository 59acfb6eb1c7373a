package main

import (
	"runtime/debug"
	"testing"
)

func TestVersionText(t *testing.T) {
	built := debug.BuildInfo{
		GoVersion: "go1.24.0",
		Main:      debug.Module{Version: "(devel)"},
		Settings: []debug.BuildSetting{
			{Key: "GOOS", Value: "linux"}, {Key: "GOARCH", Value: "arm64"},
			{Key: "CGO_ENABLED", Value: "0"}, {Key: "-trimpath", Value: "true"},
			{Key: "vcs.revision", Value: "0a1b2c"}, {Key: "vcs.modified", Value: "true"},
		},
	}
	tests := []struct {
		name            string
		info            debug.BuildInfo
		version, commit string
		want            string
	}{
		{"go build", built, "", "",
			"xfrmfw   devel\ncommit   0a1b2c (modified)\ngo       go1.24.0 linux/arm64\nsettings -trimpath=true CGO_ENABLED=0\n"},
		{"a package", built, "1.2.3", "f00",
			"xfrmfw   1.2.3\ncommit   f00\ngo       go1.24.0 linux/arm64\nsettings -trimpath=true CGO_ENABLED=0\n"},
		{"nothing recorded", debug.BuildInfo{GoVersion: "go1.24.0", Main: debug.Module{Version: "(devel)"}}, "", "",
			"xfrmfw   devel\ngo       go1.24.0\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := versionText(test.info, test.version, test.commit); got != test.want {
				t.Errorf("got:\n%swant:\n%s", got, test.want)
			}
		})
	}
}
