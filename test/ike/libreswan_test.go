package ike

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

const pluto = "/usr/libexec/ipsec/pluto"

// A libreswan is pluto on one host, with a connection called net.
type libreswan struct {
	host *lab.Host
	dir  string
}

// startLibreswan starts it. The kernel gets another reqid than pluto tells the updown script, unless one is chosen.
func startLibreswan(t *testing.T, n *lab.Network, g *lab.Host, updown string, lines ...string) libreswan {
	t.Helper()
	l := newLibreswan(t, g)
	dir := l.dir
	peer := n.Peer(g)
	f := lab.IPv4
	daemon := l.start(t, fmt.Sprintf(`config setup
	nssdir=%s
conn net
	ikev2=insist
	authby=secret
	ike=aes128-sha2_256-dh19
	esp=aes_gcm128
	left=%s
	leftid=@%s.lab
	leftsubnet=%s
	leftupdown="%s"
	right=%s
	rightid=@%s.lab
	rightsubnet=%s
	%s
`, dir, g.Outer(f), g.Name, g.InnerNet(f), updown, peer.Outer(f), peer.Name, peer.InnerNet(f), strings.Join(lines, "\n\t")),
		"@moon.lab @sun.lab : PSK \"only for the lab, and as long as a secret has to be\"\n")
	daemon.WaitOutput(t, "loading secrets from")
	g.Run(t, "ipsec", "addconn", "--config", l.file("ipsec.conf"), "--ctlsocket", l.file("pluto.ctl"), "net")
	return l
}

// newLibreswan makes a folder for pluto on a host. The test is skipped where Libreswan is missing.
func newLibreswan(t *testing.T, g *lab.Host) libreswan {
	t.Helper()
	if _, err := os.Stat(pluto); err != nil {
		lab.Lacking(t, "libreswan", fmt.Sprintf("%v; run: scripts/fetch libreswan", err))
	}
	// A short path, as that of a Unix socket may have 107 bytes.
	dir, err := os.MkdirTemp("", "ike")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return libreswan{g, dir}
}

// start writes the configuration and the secrets, and starts pluto.
func (l libreswan) start(t *testing.T, config, secrets string) *lab.Process {
	t.Helper()
	for name, text := range map[string]string{"ipsec.conf": config, "ipsec.secrets": secrets} {
		if err := os.WriteFile(l.file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l.host.Run(t, "certutil", "-N", "--empty-password", "-d", "sql:"+l.dir)
	return l.host.Start(t, nil, pluto, "--nofork", "--stderrlog", "--config", l.file("ipsec.conf"), "--secretsfile", l.file("ipsec.secrets"),
		"--nssdir", l.dir, "--rundir", l.dir, "--ipsecdir", l.dir)
}

func (l libreswan) file(name string) string { return filepath.Join(l.dir, name) }

// whack tells pluto to do something.
func (l libreswan) whack(t *testing.T, args ...string) {
	t.Helper()
	l.host.Run(t, "ipsec", append([]string{"whack", "--ctlsocket", l.file("pluto.ctl")}, args...)...)
}

// rekeyChild is the word that replaces the child's SAs: another one since Libreswan 5.
func (l libreswan) rekeyChild(t *testing.T) string {
	t.Helper()
	help := l.host.Try(t, "", "ipsec", "whack", "--help")
	if strings.Contains(help.Stdout+help.Stderr, "--rekey-child") {
		return "--rekey-child"
	}
	return "--rekey-ipsec"
}

// TestLibreswan brings tunnels up and down by pluto. The hook's script calls pluto's own
// updown script.
func TestLibreswan(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	for name, line := range map[string]string{"reqid of its own": "", "chosen reqid": "reqid=77"} {
		t.Run(name, func(t *testing.T) {
			n := lab.NewNetwork(t)
			f := lab.IPv4
			closed(t, n.Gateways()...)
			sun := startLibreswan(t, n, n.Sun, updown(t), line)
			moon := startLibreswan(t, n, n.Moon, updown(t), line)
			wire := n.Wire(t)
			moon.whack(t, "--name", "net", "--initiate")
			eventuallyPings(t, n.Alice, n.Bob.Inner(f))
			eventuallyPings(t, n.Bob, n.Alice.Inner(f))
			lab.InSync(t, n.Gateways()...)
			for _, g := range n.Gateways() {
				up := status(t, g).up()
				if len(up) != 1 || up[0].PeerID != "@"+n.Peer(g).Name+".lab" || up[0].Connection != "net" {
					t.Errorf("%s: status shows %+v", g.Name, up)
				}
			}
			moon.whack(t, "--name", "net", moon.rekeyChild(t))
			moon.whack(t, "--name", "net", "--rekey-ike")
			n.Alice.MustPing(t, n.Bob.Inner(f), 3)
			if up := status(t, n.Sun).up(); len(up) != 1 || up[0].PeerID != "@moon.lab" {
				t.Errorf("after rekeys: status shows %+v", up)
			}
			moon.whack(t, "--name", "net", "--terminate")
			lab.Eventually(t, 6*lab.Patience, func() error {
				if got := n.Sun.Run(t, "ip", "xfrm", "state"); strings.Contains(got, "proto esp") {
					return fmt.Errorf("sun still has states:\n%s", got)
				}
				return nil
			})
			// Pluto leaves a trap, by which the next packet would bring the tunnel up again.
			for _, l := range []libreswan{sun, moon} {
				l.whack(t, "--name", "net", "--delete")
			}
			lab.InSync(t, n.Gateways()...)
			for _, g := range n.Gateways() {
				if up := status(t, g).up(); len(up) != 0 {
					t.Errorf("%s: status shows %+v", g.Name, up)
				}
			}
			n.Bob.MustNotPing(t, n.Alice.Inner(f), 2)
			n.Alice.MustNotPing(t, n.Bob.Inner(f), 2)
			noCleartext(t, wire, lab.Between(netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.2.0.0/24")))
			if left, _ := filepath.Glob(filepath.Join(n.Sun.RunDir(), "peers-*", "*.json")); len(left) != 0 {
				t.Errorf("records are left: %v", left)
			}
		})
	}
}
