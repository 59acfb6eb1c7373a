package lab

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// An IKE is a pair of strongSwan daemons, on both gateways of a network, with one connection between them.
type IKE struct {
	Daemons map[*Host]*Charon

	network *Network
}

// StartIKE starts strongSwan on both gateways, with IPsec c as its connection: selectors, reqid, if_id and marks are
// those of c. Each gateway calls the updown script when a tunnel comes up or goes down, if its path is not empty. The
// tunnel is up only after Initiate. The test is skipped where strongSwan is not there.
func (n *Network) StartIKE(t testing.TB, c IPsec, updown string) *IKE {
	t.Helper()
	c = c.withDefaults()
	ike := &IKE{Daemons: map[*Host]*Charon{}, network: n}
	for _, gateway := range n.Gateways() {
		ike.Daemons[gateway] = gateway.StartCharon(t, n.swanctlConf(gateway, c, updown))
	}
	return ike
}

// Swanctl runs swanctl on a gateway; the test fails if it does.
func (i *IKE) Swanctl(t testing.TB, gateway *Host, args ...string) string {
	t.Helper()
	return i.Daemons[gateway].Swanctl(t, args...)
}

// Initiate has moon bring the tunnel up, and waits until it is.
func (i *IKE) Initiate(t testing.TB) {
	t.Helper()
	i.Swanctl(t, i.network.Moon, "--initiate", "--child", "net")
}

// Rekey has moon replace the SAs by new ones.
func (i *IKE) Rekey(t testing.TB) {
	t.Helper()
	i.Swanctl(t, i.network.Moon, "--rekey", "--child", "net")
}

// Terminate has moon take the tunnel down, on both gateways.
func (i *IKE) Terminate(t testing.TB) {
	t.Helper()
	i.Swanctl(t, i.network.Moon, "--terminate", "--ike", "lab")
}

// swanctlConf is one side of the connection.
func (n *Network) swanctlConf(gateway *Host, c IPsec, updown string) string {
	peer := n.Peer(gateway)
	child := []string{
		"esp_proposals = aes128gcm16-ecp256", "start_action = none", fmt.Sprintf("reqid = %d", c.Reqid),
		"local_ts = " + list(n.nets(gateway, c)), "remote_ts = " + list(n.nets(peer, c)), "mode = " + string(c.mode()),
	}
	if updown != "" {
		child = append(child, "updown = "+updown)
	}
	if c.IfID != 0 {
		child = append(child, fmt.Sprintf("if_id_in = %d", c.IfID), fmt.Sprintf("if_id_out = %d", c.IfID))
	}
	if c.Mark != (Mark{}) {
		mark := fmt.Sprintf("0x%x/0x%x", c.Mark.Value, c.Mark.Mask)
		child = append(child, "mark_in = "+mark, "mark_out = "+mark)
	}
	if c.InboundMark != (Mark{}) {
		child = append(child, fmt.Sprintf("set_mark_in = 0x%x/0x%x", c.InboundMark.Value, c.InboundMark.Mask))
	}
	if c.Compress {
		child = append(child, "ipcomp = yes")
	}
	encap := pick(c.NATT, "yes", "no")
	return fmt.Sprintf(`
connections {
	lab {
		version = 2
		proposals = aes128-sha256-ecp256
		local_addrs = %s
		remote_addrs = %s
		encap = %s
		local {
			auth = psk
			id = %s
		}
		remote {
			auth = psk
			id = %s
		}
		children {
			net {
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
`, gateway.Outer(c.Outer), peer.Outer(c.Outer), encap, gateway.Name, peer.Name, strings.Join(child, "\n\t\t\t\t"))
}

func list(networks []netip.Prefix) string {
	words := make([]string, len(networks))
	for i, network := range networks {
		words[i] = network.String()
	}
	return strings.Join(words, ",")
}
