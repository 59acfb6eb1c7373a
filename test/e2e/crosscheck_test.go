package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// configure writes a host's configuration file.
func configure(t *testing.T, h *lab.Host, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(h.EtcDir(), "xfrmfw.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCrossCheck takes away the rule that tags, as a program that meddles with our chains could: under observe the
// tunnel's packets pass and are counted by themselves, under enforce none does.
func TestCrossCheck(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	closed(t, n.Gateways()...)
	n.Up(t, lab.IPsec{})
	n.Moon.MustXfrmfw(t, "apply")
	for _, word := range []string{"observe", "enforce"} {
		configure(t, n.Sun, "cross_check: "+word+"\n")
		r := n.Sun.Xfrmfw(t, "apply")
		if r.Code != 0 || strings.Contains(r.Stderr, "enforce needs the daemon") != (word == "enforce") {
			t.Fatalf("%s: apply says %+v", word, r)
		}
		n.Alice.MustPing(t, n.Bob.Inner(lab.IPv4), 2)
		untouched(t, n.Sun)
		n.Sun.Iptables(t, lab.IPv4, "-t", "mangle", "-F", "XFRMFW-TAG")
		before := status(t, n.Sun)
		pings := n.Alice.Ping(t, n.Bob.Inner(lab.IPv4), 3)
		after := status(t, n.Sun)
		passed := after.Tunnels[0].PacketsBy.Unconfirmed - before.Tunnels[0].PacketsBy.Unconfirmed
		dropped := after.Drops["unconfirmed"].Packets - before.Drops["unconfirmed"].Packets
		if want := map[string][3]int{"observe": {3, 3, 0}, "enforce": {0, 0, 3}}[word]; want != [3]int{pings.Received, passed, dropped} {
			t.Errorf("%s: without tags %d of 3 pings were answered, %d counted, %d dropped; want %v", word, pings.Received, passed, dropped, want)
		}
		n.Sun.MustXfrmfw(t, "apply")
	}
	n.Alice.MustPing(t, n.Bob.Inner(lab.IPv4), 2)
}

// TestEnforceWithOffload is that enforce is refused where ESP is decrypted before
// netfilter sees it, and that a hook leaves it, because it can't ask anybody.
func TestEnforceWithOffload(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	lab.LoadESPOffload(t)
	n := lab.NewNetwork(t)
	n.EnableGRO(t)
	closed(t, n.Gateways()...)
	n.Up(t, lab.IPsec{})
	n.Moon.MustXfrmfw(t, "apply")
	configure(t, n.Sun, "cross_check: enforce\n")
	before := n.Sun.Save(t, lab.IPv4)
	r := n.Sun.Xfrmfw(t, "apply")
	if r.Code != 1 || !strings.Contains(r.Stderr, "esp4_offload is loaded") || !strings.Contains(r.Stderr, "cross_check: observe") {
		t.Errorf("apply says %+v", r)
	}
	if after := n.Sun.Save(t, lab.IPv4); after != before {
		t.Errorf("a refused apply has written\n%s", after)
	}
	n.Sun.MustXfrmfw(t, "hook")
	lab.Eventually(t, lab.Patience, func() error {
		if got := n.Alice.Ping(t, n.Bob.Inner(lab.IPv4), 1).Received; got != 1 {
			return fmt.Errorf("%d of 1 ping answered after the hook", got)
		}
		return nil
	})
	if got := status(t, n.Sun).Drops["unconfirmed"].Packets; got != 0 {
		t.Errorf("%d packets dropped as unconfirmed", got)
	}
}
