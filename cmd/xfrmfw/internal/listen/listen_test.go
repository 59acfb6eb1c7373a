package listen

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, network, path string }{
		{"unix:/run/xfrmfw/metrics.sock", "unix", "/run/xfrmfw/metrics.sock"},
		{"127.0.0.1:9863", "tcp", "127.0.0.1:9863"},
		{"127.8.9.1:1", "tcp", "127.8.9.1:1"},
		{"[::1]:9863", "tcp", "[::1]:9863"},
		{"[::ffff:127.0.0.1]:9863", "tcp", "127.0.0.1:9863"},
	} {
		got, err := Parse(tt.text)
		if err != nil || got != (Address{tt.network, tt.path}) {
			t.Errorf("%s: %+v, %v", tt.text, got, err)
		}
		if again, err := Parse(got.String()); again != got {
			t.Errorf("%s: read back as %+v, %v", tt.text, again, err)
		}
	}
}

// Each of these would be open to others, or differ from its look.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const loopback = "is not a loopback address"
	for text, want := range map[string]string{
		"0.0.0.0:9863":                      loopback,
		"[::]:9863":                         loopback,
		"192.0.2.1:9863":                    loopback,
		"[2001:db8::1]:9863":                loopback,
		"[::ffff:10.0.0.1]:9863":            loopback,
		"[fe80::1]:9863":                    loopback,
		":9863":                             "write unix:",
		"":                                  "write unix:",
		"localhost:9863":                    "write unix:",
		"127.0.0.1":                         "write unix:",
		"127.0.0.1:http":                    "write unix:",
		"127.0.0.1:70000":                   "write unix:",
		"127.1:9863":                        "write unix:",
		"[::1%lo]:9863":                     "write unix:",
		"127.0.0.1:0":                       "port 0",
		"unix:":                             "absolute",
		"unix:/":                            "absolute",
		"unix:run/x":                        "absolute",
		"unix:@xfrmfw":                      "absolute",
		"unix:/run/../etc/x":                "absolute",
		"unix:/run/x/":                      "absolute",
		"unix:/run/a\nb":                    "control",
		"unix:/run/a\x00b":                  "control",
		"unix:/" + strings.Repeat("x", 107): "at most 107",
	} {
		if got, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) || got != (Address{}) {
			t.Errorf("%q: %+v, %v; want an error with %q", text, got, err, want)
		}
	}
}
