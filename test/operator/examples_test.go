package operator

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/test/manual"
)

// TestExamples runs the commands with output in the documents, on a gateway with a tunnel
// that is up, and compares. The IDs are the same everywhere, because they are made from
// the things that they name.
func TestExamples(t *testing.T) {
	n := lab.NewNetwork(t)
	n.Up(t, lab.IPsec{})
	const config = "tunnels:\n  - match: {peer: 192.0.2.1}\n    name: office\n    in: [tcp/22, icmp]\n"
	if err := os.WriteFile(filepath.Join(n.Sun.EtcDir(), "xfrmfw.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Sun.MustXfrmfw(t, "apply")
	n.Alice.MustPing(t, n.Bob.Inner(lab.IPv4), 1)
	compare := func(command string) {
		t.Helper()
		for _, e := range manual.Examples(t, command) {
			got := n.Sun.Xfrmfw(t, strings.Fields(e.Command)[1:]...)
			if got.Stdout != e.Output {
				t.Errorf("%s:%d: %s\nprints, with exit status %d,\n%s%s\nwhere the document has\n%s", e.Document, e.Line, e.Command, got.Code, got.Stdout, got.Stderr, e.Output)
			}
		}
	}
	compare("xfrmfw explain ")

	n.Sun.RunInput(t, "table inet filter {\n\tchain forward { type filter hook forward priority filter; policy drop; }\n}\n", "nft", "-f", "-")
	compare("xfrmfw doctor")
	n.Sun.Run(t, "nft", "delete", "table", "inet", "filter")

	for _, words := range []string{"-I FORWARD -i lan0 -j ACCEPT", "-A XFRMFW-STRAY -j ACCEPT", "-D XFRMFW-TAG 1"} {
		n.Sun.Iptables(t, lab.IPv4, append([]string{"-t", "mangle"}, strings.Fields(words)...)...)
	}
	compare("xfrmfw check")
	compare("xfrmfw apply --dry-run --diff")
}
