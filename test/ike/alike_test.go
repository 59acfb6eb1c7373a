package ike

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// twoChildren is the connection between moon and sun, on one of them, with a second network of moon's as a child of its
// own.
func twoChildren(n *lab.Network, g *lab.Host, updown string) string {
	child := ""
	if updown != "" {
		child = "updown = " + updown
	}
	local, remote := n.Sun.InnerNet(lab.IPv4).String(), "10.11.0.0/24"
	if g == n.Moon {
		local, remote = remote, local
	}
	text := gatewayConf(n, g, side{connection: []string{"local_addrs = " + g.Outer(lab.IPv4).String()}}, updown)
	return strings.Replace(text, "children {", fmt.Sprintf(`children {
			second {
				esp_proposals = aes128gcm16-ecp256
				local_ts = %s
				remote_ts = %s
				%s
			}`, local, remote, child), 1)
}

// TestFollowersAgree takes two tunnels through the same life, with the hook alone, with the daemon alone and with both:
// at each point the rules are, byte for byte, those of an apply by hand.
func TestFollowersAgree(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	f := lab.IPv4
	stages := []string{"two tunnels", "one rekeyed, the other gone", "all went"}
	var byHand map[string]string
	for _, way := range []struct {
		name         string
		hook, daemon bool
	}{{"by hand", false, false}, {"hook", true, false}, {"daemon", false, true}, {"both", true, true}} {
		t.Run(way.name, func(t *testing.T) {
			n := lab.NewNetwork(t)
			closed(t, n.Gateways()...)
			script := ""
			if way.hook {
				script = updown(t)
			}
			if way.daemon {
				for _, g := range n.Gateways() {
					startDaemon(t, g)
				}
			}
			n.Sun.StartCharon(t, twoChildren(n, n.Sun, script))
			moon := n.Moon.StartCharon(t, twoChildren(n, n.Moon, script))
			wire := n.Wire(t)
			initiate := func(child string) { moon.Swanctl(t, "--initiate", "--timeout", "60", "--child", child) }
			rules := make(map[string]string)
			for _, stage := range stages {
				policies := 0
				switch stage {
				case "two tunnels":
					policies = 6
					initiate("sun-net")
					initiate("second")
				case "one rekeyed, the other gone":
					policies = 3
					moon.Swanctl(t, "--terminate", "--child", "second")
					moon.Swanctl(t, "--rekey", "--child", "sun-net")
					moon.Swanctl(t, "--rekey", "--ike", "site")
				case "all went":
					moon.Swanctl(t, "--terminate", "--ike", "site")
				}
				for _, g := range n.Gateways() {
					lab.Eventually(t, 3*lab.Patience, func() error {
						text := g.Run(t, "ip", "xfrm", "policy")
						if got := strings.Count(text, "reqid"); got != policies {
							return fmt.Errorf("%s, %s: %d policies, want %d\n%s", stage, g.Name, got, policies, text)
						}
						return nil
					})
					if !way.hook && !way.daemon {
						g.MustXfrmfw(t, "apply")
					}
				}
				lab.InSync(t, n.Gateways()...)
				for _, g := range n.Gateways() {
					for _, f := range lab.Families {
						rules[fmt.Sprintf("%s, %s, %v", stage, g.Name, f)] = g.Save(t, f)
					}
				}
				if policies > 0 {
					n.Alice.MustPing(t, n.Bob.Inner(f), 1)
				} else {
					n.Alice.MustNotPing(t, n.Bob.Inner(f), 1)
				}
			}
			noCleartext(t, wire, innerNets(n))
			if byHand == nil {
				byHand = rules
				return
			}
			for what, text := range rules {
				if text != byHand[what] {
					t.Errorf("%s: the rules are\n%s\nand by hand\n%s", what, text, byHand[what])
				}
			}
			t.Logf("the %s: %d sets of rules, all the same bytes as by hand", way.name, len(rules))
		})
	}
}
