package config

import (
	"testing"
	"time"
)

func TestParseDaemon(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Daemon{
		"":                                    {10 * time.Second, time.Minute, "", 1000},
		"daemon: {audit: 1s}":                 {time.Second, time.Minute, "", 1000},
		"daemon: {metrics: 127.0.0.1:9863}":   {10 * time.Second, time.Minute, "127.0.0.1:9863", 1000},
		"daemon:\n  metrics: \"[::1]:9863\"":  {10 * time.Second, time.Minute, "[::1]:9863", 1000},
		"daemon: {metrics: unix:/run/m.sock}": {10 * time.Second, time.Minute, "unix:/run/m.sock", 1000},
		"daemon: {metrics: off}":              {10 * time.Second, time.Minute, "", 1000},
		"daemon: {audit: 2m30s, resync: 1h, metrics: \"127.0.0.2:80\", metrics_tunnels: 0}": {150 * time.Second, time.Hour, "127.0.0.2:80", 0},
	} {
		c, err := Parse([]byte(text), "f")
		if err != nil || c.Daemon != want {
			t.Errorf("%q: got %+v, %v; want %+v", text, c.Daemon, err, want)
		}
	}
}

func TestParseDaemonMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"daemon: yes\n":                               "f:1:9: daemon must be a mapping (key: value), not text",
		"daemon: {audits: 10s}\n":                     `f:1:10: unknown key "audits": did you mean audit?`,
		"daemon:\n  audit: 10\n":                      "f:2:10: audit must be text, not a number: put it in quotes",
		"daemon:\n  audit: 10ms\n":                    `f:2:10: audit is "10ms": write a time from 1s to 1h, such as 10s`,
		"daemon:\n  resync: -60s\n":                   `f:2:11: resync is "-60s": write a time from 1s to 1h, such as 10s`,
		"daemon:\n  resync: 2h\n":                     `f:2:11: resync is "2h": write a time from 1s to 1h, such as 10s`,
		"daemon:\n  resync: often\n":                  `f:2:11: resync is "often": write a time from 1s to 1h, such as 10s`,
		"daemon: {metrics: 0.0.0.0:9863}\n":           `f:1:19: metrics is "0.0.0.0:9863": 0.0.0.0 is not a loopback address, and metrics name your peers: listen on 127.0.0.1, [::1] or unix:/run/xfrmfw-metrics/metrics.sock, and let a proxy with a login serve others`,
		"daemon: {metrics: localhost}\n":              `f:1:19: metrics is "localhost": write unix:/run/xfrmfw-metrics/metrics.sock, 127.0.0.1:9863 or [::1]:9863`,
		"daemon:\n  metrics: [::1]:9863\n":            "", // a list, or no YAML at all: only that it is refused
		"daemon: {metrics_tunnels: 100001}\n":         "f:1:27: metrics_tunnels is 100001: write at most 100000",
		"daemon: {metrics_tunnels: \"all\"}\n":        "f:1:27: metrics_tunnels must be a whole number, not text: write it without quotes, such as 1000",
		"daemon: {audit: 10s}\ndaemon: {audit: 1s}\n": "f:2:1: daemon is given twice, first on line 1: keep one",
	} {
		if _, err := Parse([]byte(text), "f"); err == nil || want != "" && err.Error() != want {
			t.Errorf("%q:\ngot  %v\nwant %s", text, err, want)
		}
	}
}
