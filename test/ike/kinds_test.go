package ike

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// A side is the part of a connection that one gateway has of its own, or both have, in
// the words of swanctl.conf.
type side struct {
	connection, child []string
	localTS, remoteTS string
}

// gatewayConf is the connection between moon and sun, on one of them.
func gatewayConf(n *lab.Network, g *lab.Host, s side, updown string) string {
	peer := n.Peer(g)
	if s.localTS == "" {
		s.localTS, s.remoteTS = g.InnerNet(lab.IPv4).String(), peer.InnerNet(lab.IPv4).String()
	}
	if updown != "" {
		s.child = append(s.child, "updown = "+updown)
	}
	return fmt.Sprintf(`
connections {
	site {
		version = 2
		proposals = aes128-sha256-ecp256
		remote_addrs = %s
		%s
		local {
			auth = psk
			id = %s.lab
		}
		remote {
			auth = psk
			id = %s.lab
		}
		children {
			%s-net {
				esp_proposals = aes128gcm16-ecp256
				local_ts = %s
				remote_ts = %s
				%s
			}
		}
	}
}
secrets {
	ike {
		secret = "only for the lab"
	}
}
`, peer.Outer(lab.IPv4), strings.Join(s.connection, "\n\t\t"), g.Name, peer.Name, peer.Name, s.localTS, s.remoteTS, strings.Join(s.child, "\n\t\t\t\t"))
}

// innerNets matches packets between the networks behind the gateways, which are never to
// be on the wire.
func innerNets(n *lab.Network) func(lab.Frame) bool {
	return lab.Between(n.Moon.InnerNet(lab.IPv4), n.Sun.InnerNet(lab.IPv4))
}

// TestKinds brings up each kind of tunnel that IKE daemons are configured for between closed gateways, with the hook alone.
func TestKinds(t *testing.T) {
	f := lab.IPv4
	gre := func(t *testing.T, n *lab.Network) {
		for _, g := range n.Gateways() {
			g.IP(t, fmt.Sprintf("link add gre1 type gre local %s remote %s ttl 64", g.Outer(f), n.Peer(g).Outer(f)),
				"link set gre1 up mtu 1400", fmt.Sprintf("route replace %s dev gre1", n.Peer(g).InnerNet(f)))
		}
	}
	tests := []struct {
		name string
		side side
		// initiate is the gateway's word, or bob's first packet if it is false.
		initiate  bool
		transport string
		prepare   func(*testing.T, *lab.Network)
		evidence  string
		in        lab.Stages
	}{
		{"fixed reqid, NAT-T", side{connection: []string{"encap = yes"}, child: []string{"reqid = 77"}}, true, "", nil, "tag+policy", lab.Oldest},
		{"trap", side{child: []string{"start_action = trap"}}, false, "", nil, "tag+policy", lab.Oldest},
		{"xfrm interface", side{child: []string{"if_id_in = 7", "if_id_out = 7"}}, true, "", func(t *testing.T, n *lab.Network) {
			for _, g := range n.Gateways() {
				g.IP(t, "link add ipsec0 type xfrm dev wan0 if_id 7", "link set ipsec0 up",
					fmt.Sprintf("route replace %s dev ipsec0", n.Peer(g).InnerNet(f)))
			}
		}, "tag+policy", lab.Newest},
		{"gre", side{child: []string{"mode = transport"}}, true, "gre", gre, "tag+policy", lab.Oldest},
		{"l2tp", side{child: []string{"mode = transport"}}, true, "udp/1701", func(t *testing.T, n *lab.Network) {
			for i, g := range n.Gateways() {
				g.IP(t, fmt.Sprintf("l2tp add tunnel tunnel_id 1 peer_tunnel_id 1 encap udp local %s remote %s udp_sport 1701 udp_dport 1701",
					g.Outer(f), n.Peer(g).Outer(f)), "l2tp add session name l2tp0 tunnel_id 1 session_id 1 peer_session_id 1",
					"link set l2tp0 up mtu 1350", fmt.Sprintf("addr add 10.9.0.%d/30 dev l2tp0", i+1),
					fmt.Sprintf("route replace %s via 10.9.0.%d", n.Peer(g).InnerNet(f), 2-i))
			}
		}, "tag+policy", lab.Soak},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			lab.RunIn(t, test.in)
			n := lab.NewNetwork(t)
			if test.prepare != nil {
				test.prepare(t, n)
			}
			closed(t, n.Gateways()...)
			daemons := make(map[*lab.Host]*lab.Charon)
			for _, g := range n.Gateways() {
				s := test.side
				if test.transport != "" {
					s.localTS, s.remoteTS = "dynamic["+test.transport+"]", "dynamic["+test.transport+"]"
				}
				s.connection = append([]string{"local_addrs = " + g.Outer(f).String()}, s.connection...)
				daemons[g] = g.StartCharon(t, gatewayConf(n, g, s, updown(t)))
			}
			wire := n.Wire(t)
			clear := func(frame lab.Frame) bool {
				return innerNets(n)(frame) || frame.Proto == 47 || frame.DstPort == 1701
			}
			if test.initiate {
				daemons[n.Moon].Swanctl(t, "--initiate", "--timeout", "60", "--child", "sun-net")
			}
			eventuallyPings(t, n.Bob, n.Alice.Inner(f))
			eventuallyPings(t, n.Alice, n.Bob.Inner(f))
			lab.InSync(t, n.Gateways()...)
			n.Bob.MustPing(t, n.Alice.Inner(f), 3)
			for _, g := range n.Gateways() {
				up := status(t, g).up()
				peer := n.Peer(g).Name
				if len(up) != 1 || up[0].PeerID != peer+".lab" || up[0].Connection != peer+"-net" || up[0].Evidence != test.evidence {
					t.Errorf("%s: status shows %+v", g.Name, up)
				}
			}
			daemons[n.Moon].Swanctl(t, "--terminate", "--ike", "site")
			if test.initiate {
				lab.Eventually(t, 6*lab.Patience, func() error {
					if got := n.Sun.Run(t, "ip", "xfrm", "state"); strings.Contains(got, "proto esp") {
						return fmt.Errorf("sun still has states:\n%s", got)
					}
					return nil
				})
				lab.InSync(t, n.Gateways()...)
				n.Bob.MustNotPing(t, n.Alice.Inner(f), 2)
				n.Alice.MustNotPing(t, n.Bob.Inner(f), 2)
			}
			noCleartext(t, wire, clear)
		})
	}
}
