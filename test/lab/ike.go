package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// charonPath is where Debian has strongSwan's IKE daemon; scripts/fetch strongswan puts it into the guest.
const charonPath = "/usr/lib/ipsec/charon"

// runsCharon gives charon a /run of its own, for its pid file, that still has the host's /run/xfrmfw.
const runsCharon = `mount --bind /run/xfrmfw /mnt && mount -t tmpfs run /run && mkdir /run/xfrmfw &&
mount --move /mnt /run/xfrmfw && exec "$0"`

// An IKE is a pair of strongSwan daemons, on both gateways of a network, with one connection between them.
type IKE struct {
	// Daemons are the processes, by gateway.
	Daemons map[*Host]*Process

	network *Network
	envs    map[*Host][]string
}

// StartIKE starts strongSwan on both gateways, with IPsec c as its connection: selectors, reqid, if_id and marks are
// those of c. Each gateway calls the updown script when a tunnel comes up or goes down, if its path is not empty. The
// tunnel is up only after Initiate. The test is skipped where strongSwan is not there.
func (n *Network) StartIKE(t testing.TB, c IPsec, updown string) *IKE {
	t.Helper()
	if _, err := os.Stat(charonPath); err != nil {
		if Required("strongswan") {
			t.Fatalf("lab: no strongSwan: %v; run: scripts/fetch strongswan", err)
		}
		t.Skipf("lab: no strongSwan: %v; run: scripts/fetch strongswan", err)
	}
	c = c.withDefaults()
	ike := &IKE{Daemons: map[*Host]*Process{}, network: n, envs: map[*Host][]string{}}
	for _, gateway := range n.Gateways() {
		// A short path, as that of a Unix socket may have 107 bytes.
		dir, err := os.MkdirTemp("", "ike")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		for name, content := range map[string]string{
			"strongswan.conf": strongswanConf(dir),
			"swanctl.conf":    n.swanctlConf(gateway, c, updown),
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ike.envs[gateway] = []string{"STRONGSWAN_CONF=" + filepath.Join(dir, "strongswan.conf"), "SWANCTL_DIR=" + dir}
		ike.Daemons[gateway] = gateway.Start(t, ike.envs[gateway], "sh", "-c", runsCharon, charonPath)
	}
	for _, gateway := range n.Gateways() {
		daemon := ike.Daemons[gateway]
		daemon.WaitOutput(t, "spawning 16 worker threads")
		ike.Swanctl(t, gateway, "--load-all")
	}
	return ike
}

// Swanctl runs swanctl on a gateway; the test fails if it does.
func (i *IKE) Swanctl(t testing.TB, gateway *Host, args ...string) string {
	t.Helper()
	result := gateway.Call(t, i.envs[gateway], "", "swanctl", args...)
	if result.Code != 0 {
		t.Fatalf("%s: swanctl %s: exit status %d\n%s%s", gateway.Name, strings.Join(args, " "), result.Code,
			indent("output", result.Stdout+result.Stderr), indent("charon", i.Daemons[gateway].Output()))
	}
	return result.Stdout
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

// strongswanConf is the configuration of charon and swanctl, with their socket in that folder.
func strongswanConf(dir string) string {
	return fmt.Sprintf(`
charon {
	load = random nonce openssl pem pkcs1 x509 hmac kdf sha1 sha2 aes gcm kernel-netlink socket-default vici updown
	plugins {
		vici {
			socket = unix://%[1]s/vici
		}
	}
	filelog {
		stderr {
			default = 1
			flush_line = yes
		}
	}
}
swanctl {
	socket = unix://%[1]s/vici
	load = random nonce openssl pem pkcs1 x509 hmac sha1 sha2 aes
}
`, dir)
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
