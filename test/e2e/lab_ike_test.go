package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestLabIKE brings a tunnel up with a real IKE daemon, rekeys it and takes it down, and sees its updown script called.
func TestLabIKE(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	tests := []struct {
		name   string
		tunnel lab.IPsec
	}{
		{"v4", lab.IPsec{}},
		{"v6, nat traversal", lab.IPsec{Inner: lab.IPv6, NATT: true}},
		{"mark", lab.IPsec{InboundMark: lab.Mark{Value: 0x2000, Mask: 0xf000}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := lab.NewNetwork(t)
			script := filepath.Join(t.TempDir(), "updown")
			content := "#!/bin/sh\necho $PLUTO_VERB $PLUTO_REQID >>/run/xfrmfw/updown\n"
			if err := os.WriteFile(script, []byte(content), 0o755); err != nil {
				t.Fatal(err)
			}
			called := func(gateway *lab.Host, want string) {
				t.Helper()
				lab.Eventually(t, lab.Patience, func() error {
					got, err := os.ReadFile(filepath.Join(gateway.RunDir(), "updown"))
					if !strings.Contains(string(got), want) {
						return fmt.Errorf("%s: updown was called with %q, want %q (%v)", gateway.Name, got, want, err)
					}
					return nil
				})
			}
			f := max(test.tunnel.Inner, lab.IPv4)
			ike := n.StartIKE(t, test.tunnel, script)
			ike.Initiate(t)
			wire := n.Wire(t)
			n.Alice.MustPing(t, n.Bob.Inner(f), 3)
			if got := wire.Count(t, lab.IsESP); got != 6 {
				t.Errorf("%d ESP packets on the wire, want 6: %v", got, wire.Frames(t))
			}
			if got := wire.Count(t, lab.IsNATT) > 0; got != test.tunnel.NATT {
				t.Errorf("ESP in UDP on the wire: %v, want %v", got, test.tunnel.NATT)
			}
			ike.Rekey(t)
			n.Bob.MustPing(t, n.Alice.Inner(f), 3)
			ike.Terminate(t)
			for _, gateway := range n.Gateways() {
				called(gateway, "up-client"+map[bool]string{true: "-v6"}[f == lab.IPv6]+" 11")
				called(gateway, "down-client"+map[bool]string{true: "-v6"}[f == lab.IPv6]+" 11")
			}
			if got := n.Sun.SAs(t); len(got) != 0 {
				t.Errorf("SAs are left on sun: %q", got)
			}
		})
	}
}
