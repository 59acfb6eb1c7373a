package e2e

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestOffload is that traffic passes where ESP is decrypted before netfilter sees it, so that nothing can be tagged. Each
// kind of tunnel is shown without the offload too: the tag rule counts then.
func TestOffload(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	tag := lab.Mark{Value: 0x10000000, Mask: 0x10000000}
	tests := []struct {
		name    string
		tunnel  lab.IPsec
		offload bool
		// evidence that status shows, and a word of the reason.
		evidence, reason string
	}{
		{"v4 without", lab.IPsec{}, false, "tag+policy", ""},
		{"v4", lab.IPsec{}, true, "policy-only", "esp4_offload is loaded"},
		{"v6 without", lab.IPsec{Inner: lab.IPv6}, false, "tag+policy", ""},
		{"v6", lab.IPsec{Inner: lab.IPv6}, true, "policy-only", "esp6_offload is loaded"},
		{"gre", lab.IPsec{Carrier: lab.GRE}, true, "policy-only", "esp4_offload is loaded"},
		{"the tag as output mark", lab.IPsec{InboundMark: tag}, true, "tag+policy", "output mark sets the tag"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.offload {
				lab.LoadESPOffload(t)
			} else if lab.ESPOffload() {
				t.Fatal("the offload modules are loaded")
			}
			n := lab.NewNetwork(t)
			n.EnableGRO(t)
			f := max(test.tunnel.Inner, lab.IPv4)
			closed(t, n.Gateways()...)
			n.Up(t, test.tunnel)
			for _, g := range n.Gateways() {
				g.MustXfrmfw(t, "apply")
			}
			n.Alice.MustPing(t, n.Bob.Inner(f), 4)

			tags := tagged(t, n.Sun, f)
			if test.offload && tags != 0 {
				t.Errorf("the tag rule counted %d packets: the offload is not in force", tags)
			}
			if !test.offload && tags < 4 {
				t.Errorf("the tag rule counted %d packets, want 4", tags)
			}
			r := status(t, n.Sun)
			if len(r.Tunnels) != 1 {
				t.Fatalf("status shows %+v", r)
			}
			tunnel := r.Tunnels[0]
			if tunnel.Evidence != test.evidence || !strings.Contains(tunnel.Reason, test.reason) {
				t.Errorf("evidence %s (%s), want %s (%s)", tunnel.Evidence, tunnel.Reason, test.evidence, test.reason)
			}
			by := tunnel.PacketsBy
			if test.evidence == "tag+policy" && (by.Verified < 4 || by.PolicyOnly != 0) ||
				test.evidence == "policy-only" && (by.PolicyOnly < 4 || by.Verified != 0) || by.Unconfirmed != 0 {
				t.Errorf("packets by evidence %+v, want 4 as %s", by, test.evidence)
			}
			if test.tunnel.Carrier == lab.GRE && by.Overlay < 4 {
				t.Errorf("%d packets out of gre1, want 4", by.Overlay)
			}
			for name, d := range r.Drops {
				if d.Packets != 0 {
					t.Errorf("%d dropped as %s", d.Packets, name)
				}
			}
		})
	}
}

// tagged is how many packets the rule has counted that sets TAG, of a family with rules of iptables.
func tagged(t *testing.T, h *lab.Host, f lab.Family) int {
	t.Helper()
	if lab.Engine() == "iptables" {
		return h.Counter(t, f, "mangle", "/tag")
	}
	for line := range strings.Lines(h.Run(t, "nft", "list", "chain", "inet", "xfrmfw", "tag_")) {
		words := strings.Fields(line)
		if at := slices.Index(words, "counter"); at >= 0 && strings.Contains(line, `comment "TAG"`) {
			count, err := strconv.Atoi(words[at+2])
			if err != nil {
				t.Fatalf("%s: counter of %q: %v", h.Name, line, err)
			}
			return count
		}
	}
	t.Fatalf("%s: no rule sets TAG", h.Name)
	return 0
}

// TestTransportPasses is plain transport mode: the traffic between the two gateways themselves.
func TestTransportPasses(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	for _, f := range lab.Families {
		t.Run(f.String(), func(t *testing.T) {
			n := lab.NewNetwork(t)
			closed(t, n.Gateways()...)
			n.Up(t, lab.IPsec{Inner: f, Transport: true})
			n.Moon.MustNotPing(t, n.Sun.Outer(f), 1)
			for _, g := range n.Gateways() {
				g.MustXfrmfw(t, "apply")
			}
			n.Moon.MustPing(t, n.Sun.Outer(f), 3)
			n.Sun.MustPing(t, n.Moon.Outer(f), 3, "-s", "1000")
			r := status(t, n.Sun)
			if len(r.Tunnels) != 1 || r.Tunnels[0].Evidence != "tag+policy" || r.Tunnels[0].PacketsBy.Verified < 6 {
				t.Errorf("status shows %+v, want a tunnel with tag+policy and 6 verified packets", r.Tunnels)
			}
		})
	}
}
