package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// closed gives a host a default policy of DROP, so that a rule has let in each packet
// that passes. Neighbour discovery stays possible, because it is no matter of IPsec.
func closed(t *testing.T, hosts ...*lab.Host) {
	t.Helper()
	for _, h := range hosts {
		policies := []string{":INPUT DROP [0:0]", ":FORWARD DROP [0:0]"}
		h.Rules(t, lab.IPv4, "filter", policies...)
		rules := policies
		for _, kind := range []string{"133", "134", "135", "136"} {
			rules = append(rules, "-A INPUT -p ipv6-icmp --icmpv6-type "+kind+" -j ACCEPT")
		}
		h.Rules(t, lab.IPv6, "filter", rules...)
	}
}

// report is the part of status --json that the tests read.
type report struct {
	Variant string `json:"variant"`
	Tunnels []struct {
		ID        string `json:"id"`
		State     string `json:"state"`
		Evidence  string `json:"evidence"`
		Reason    string `json:"reason"`
		Selectors []struct {
			Remote string `json:"remote"`
		} `json:"selectors"`
		PacketsBy struct {
			Verified    int `json:"verified"`
			PolicyOnly  int `json:"policy_only"`
			Unconfirmed int `json:"unconfirmed"`
			Overlay     int `json:"overlay"`
		} `json:"packets_by"`
		SAs []struct {
			SPI   string   `json:"spi"`
			Dir   string   `json:"dir"`
			Rules []string `json:"rules"`
		} `json:"sas"`
	} `json:"tunnels"`
	Drops map[string]struct {
		Packets int `json:"packets"`
	} `json:"drops"`
	Counts struct {
		StrayTag int `json:"stray_tag"`
		Unknown  int `json:"unknown"`
	} `json:"counts"`
	InSync      *bool    `json:"in_sync"`
	Differences []string `json:"differences"`
	Warnings    []string `json:"warnings"`
}

// status is the output of xfrmfw status on the tunnels of the test, without the crowd
// beside them. Further words are options.
func status(t *testing.T, h *lab.Host, words ...string) report {
	t.Helper()
	var r report
	text := h.MustXfrmfw(t, append([]string{"status", "--json"}, words...)...)
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%s: status --json: %v\n%.10000s", h.Name, err, text)
	}
	all, crowd := len(r.Tunnels), lab.CrowdNets()
	own := r.Tunnels[:0]
	for _, tunnel := range r.Tunnels {
		if len(tunnel.Selectors) == 0 || !crowd[tunnel.Selectors[0].Remote] {
			own = append(own, tunnel)
		}
	}
	r.Tunnels = own
	if others := all - len(own); others > 0 {
		t.Logf("%s: status shows %d tunnels and %d further ones", h.Name, len(own), others)
	}
	return r
}

// TestTunnelsPass is the purpose of xfrmfw: with it and nothing else, traffic passes
// through every kind of tunnel between two closed gateways; without it, none does.
func TestTunnelsPass(t *testing.T) {
	tests := []struct {
		name     string
		tunnel   lab.IPsec
		evidence string
		in       lab.Stages
	}{
		{"v4", lab.IPsec{}, "tag+policy", lab.All},
		{"v6", lab.IPsec{Inner: lab.IPv6}, "tag+policy", lab.Newest},
		{"v6 in v4", lab.IPsec{Inner: lab.IPv6, Outer: lab.IPv4}, "tag+policy", lab.Oldest},
		{"v4 in v6", lab.IPsec{Inner: lab.IPv4, Outer: lab.IPv6}, "tag+policy", lab.Oldest},
		{"nat traversal", lab.IPsec{NATT: true}, "tag+policy", lab.Oldest},
		{"nat traversal v6", lab.IPsec{Inner: lab.IPv6, NATT: true}, "tag+policy", lab.Oldest},
		{"ipcomp", lab.IPsec{Compress: true}, "tag+policy", lab.Oldest},
		{"ipcomp v6", lab.IPsec{Inner: lab.IPv6, Compress: true}, "tag+policy", lab.Oldest},
		{"greedy output mark", lab.IPsec{InboundMark: lab.Mark{Value: 0x2000, Mask: 0xf000f000}}, "policy-only", lab.Newest},
		{"xfrm interface", lab.IPsec{Carrier: lab.XFRMInterface}, "tag+policy", lab.Newest},
		{"xfrm interface v6", lab.IPsec{Inner: lab.IPv6, Carrier: lab.XFRMInterface}, "tag+policy", lab.Newest},
		{"vti", lab.IPsec{Carrier: lab.VTI}, "overlay", lab.Oldest},
		{"vti v6", lab.IPsec{Inner: lab.IPv6, Carrier: lab.VTI}, "overlay", lab.Oldest},
		{"gre", lab.IPsec{Carrier: lab.GRE}, "tag+policy", lab.Oldest},
		{"gre v6", lab.IPsec{Inner: lab.IPv6, Carrier: lab.GRE}, "tag+policy", lab.Oldest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			lab.RunIn(t, test.in)
			n := lab.NewNetwork(t)
			f := test.tunnel.Inner
			if f == 0 {
				f = lab.IPv4
			}
			closed(t, n.Gateways()...)
			n.Up(t, test.tunnel)
			n.Alice.MustNotPing(t, n.Bob.Inner(f), 1)
			for _, g := range n.Gateways() {
				g.MustXfrmfw(t, "apply")
			}
			n.Alice.MustPing(t, n.Bob.Inner(f), 3)
			n.Bob.MustPing(t, n.Alice.Inner(f), 3, "-s", "1000")
			n.Alice.MustPing(t, n.Sun.Inner(f), 1, "-s", "1000")

			for _, g := range n.Gateways() {
				r := status(t, g)
				if len(r.Tunnels) != 1 || r.InSync == nil || !*r.InSync {
					t.Fatalf("%s: status shows %d tunnels, in sync %v, differences %q", g.Name, len(r.Tunnels), r.InSync, r.Differences)
				}
				tunnel := r.Tunnels[0]
				if tunnel.State != "up" || tunnel.Evidence != test.evidence {
					t.Errorf("%s: state %s, evidence %s (%s), want up, %s", g.Name, tunnel.State, tunnel.Evidence, tunnel.Reason, test.evidence)
				}
				by := tunnel.PacketsBy
				if by.Verified+by.PolicyOnly+by.Overlay < 7 || by.Unconfirmed != 0 {
					t.Errorf("%s: packets by evidence %+v, want the 7 or more that came in", g.Name, by)
				}
				for name, d := range r.Drops {
					if d.Packets != 0 {
						t.Errorf("%s: %d dropped as %s", g.Name, d.Packets, name)
					}
				}
				if r.Counts.Unknown != 0 {
					t.Errorf("%s: %d packets out of unknown states", g.Name, r.Counts.Unknown)
				}
				for _, sa := range tunnel.SAs {
					if len(sa.Rules) == 0 {
						t.Errorf("%s: no rule serves state %s %s", g.Name, sa.SPI, sa.Dir)
					}
				}
			}
			for _, g := range n.Gateways() {
				if out := g.MustXfrmfw(t, "apply"); !strings.Contains(out, "no change") {
					t.Errorf("%s: a second apply: %s", g.Name, out)
				}
			}
		})
	}
}
