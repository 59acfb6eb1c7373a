package gather

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor"
)

// TestSaved reads files as nft 1.0.6 and 1.1.3 list rule sets, beside files that only name this program.
func TestSaved(t *testing.T) {
	const chains = "table ip mangle {\n\tchain XFRMFW-SEL {\n\t\tmeta secpath exists counter packets 0 bytes 0 meta mark set mark or 0x1\n\t}\n}\n"
	h := root(t, map[string]string{
		"etc/nftables.conf":           "#!/usr/sbin/nft -f\nflush ruleset\n" + chains,
		"etc/sysconfig/nftables.conf": "table inet xfrmfw {\n}\n",
		"etc/nftables.nft":            "table inet filter {\n\tchain forward {\n\t\tcomment \"chain XFRMFW-SEL\"\n\t}\n}\n",
		"etc/nftables.d/10.nft":       chains + "table inet xfrmfw {\n}\n",
		"etc/nftables.d/20.conf":      chains,
		"etc/nftables/mine.nft":       "table inet xfrmfwatch {\n}\n# table inet xfrmfw\n",
	})
	if err := syscall.Mkfifo(filepath.Join(h.Root, "etc/nftables/fifo.nft"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []doctor.Saved{
		{File: "/etc/nftables.conf", Chains: true},
		{File: "/etc/sysconfig/nftables.conf", Table: true},
		{File: "/etc/nftables.d/10.nft", Chains: true, Table: true},
	}
	if diff := cmp.Diff(want, h.Saved()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := root(t, nil).Saved(); got != nil {
		t.Errorf("without files: %v", got)
	}
}
