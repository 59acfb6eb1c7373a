package systemd

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/test/manual"
)

// built are lines of the documents that run where Go is, which has been done before: scripts/package by scripts/test, and the
// build of the program under test.
var built = []string{"scripts/package /tmp/packages ", "CGO_ENABLED=0 go build -trimpath ./cmd/xfrmfw\n"}

// withoutBuild takes such a line out of a block, which has to have one.
func withoutBuild(t *testing.T, block string) string {
	t.Helper()
	var kept []string
	for line := range strings.Lines(block) {
		if !strings.HasPrefix(line, built[0]) && line != built[1] {
			kept = append(kept, line)
		}
	}
	if strings.Count(block, "\n") != len(kept)+1 {
		t.Fatalf("the documents have another way to build:\n%s", block)
	}
	return strings.Join(kept, "")
}

// recipe puts the configuration of README.md's recipe in force, with the interface that leads to the WAN here. The peer then
// reaches the services that it lists and no others, and the WAN only SSH. The configuration is taken away in the end.
func (g *gateway) recipe(t *testing.T, closed []way, alice netip.AddrPort) {
	t.Helper()
	_, rest, found := strings.Cut(manual.Text(t), "\n## A recipe\n")
	_, rest, _ = strings.Cut(rest, "```yaml\n")
	text, _, _ := strings.Cut(rest, "```")
	if text = strings.Replace(text, "wan: [eth0]", "wan: [wan0]", 1); !found || !strings.Contains(text, "wan0") {
		t.Fatalf("README.md has another recipe:\n%s", text)
	}
	g.write(t, "/etc/xfrmfw/xfrmfw.yaml", text)
	g.sh(t, "xfrmfw apply\nxfrmfw status")
	f := lab.IPv4
	ssh := g.Sun.ServeTCP(t, netip.AddrPortFrom(g.Sun.Outer(f), 22))
	flows(t, "the recipe", way{from: g.Alice, to: serve(t, g.Bob, 22)}, way{from: g.Alice, to: serve(t, g.Bob, 443)},
		way{from: g.Bob, to: alice}, way{from: g.Mallory, to: ssh})
	shut(t, "the recipe", append(closed[:1:1], way{from: g.Mallory, to: g.Sun.ServeTCP(t, netip.AddrPortFrom(g.Sun.Outer(f), 7100))})...)
	if r := g.report(t); len(r.Tunnels) != 1 || r.Tunnels[0].Name != "office" || len(r.Warnings) > 0 {
		t.Errorf("the recipe: status shows %+v", r)
	}
	g.healthy(t, "the recipe")
	g.blocks++
	g.write(t, "/etc/xfrmfw/xfrmfw.yaml", "")
	g.Run(t, "xfrmfw", "apply")
}

// TestQuickStart goes from a bare gateway, on which strongSwan runs and nothing protects the tunnel, to enforced rules and
// back, by the commands of README.md alone.
func TestQuickStart(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	f := lab.IPv4
	n := lab.NewNetwork(t)
	g := newGateway(t, n, n.Sun, false)
	g.write(t, "/etc/swanctl/conf.d/site.conf", swanctlConf(peer{
		name: "site", local: "local_addrs = 192.0.2.2", remote: "192.0.2.1", id: "sun", peerID: "moon", secret: "only for the lab",
		child: []string{"local_ts = 10.2.0.0/24", "remote_ts = 10.1.0.0/24"},
	}))
	g.Run(t, "swanctl", "--load-all")
	moon := n.Moon.StartCharon(t, swanctlConf(peer{
		name: "site", local: "local_addrs = 192.0.2.1", remote: "192.0.2.2", id: "moon", peerID: "sun", secret: "only for the lab",
		child: []string{"local_ts = 10.1.0.0/24", "remote_ts = 10.2.0.0/24"},
	}))
	alice, bob := serve(t, n.Alice, 7100), serve(t, n.Bob, 7100)
	ways := []way{{from: n.Alice, to: bob}, {from: n.Bob, to: alice}}
	up := func() { moon.Swanctl(t, "--initiate", "--timeout", "60", "--child", "site") }
	down := func() { moon.Swanctl(t, "--terminate", "--ike", "site") }

	up()
	flows(t, "bare", ways...)
	down()
	wire := n.Wire(t)
	lab.Eventually(t, lab.Patience, func() error {
		g.forge(t, n.Alice.Inner(f))
		n.Bob.Ping(t, n.Alice.Inner(f), 1)
		if forged, clear := g.inbox.Count("forged"), wire.Count(t, func(f lab.Frame) bool { return f.Link == "sun0" && f.Src == n.Bob.Inner(lab.IPv4) }); forged == 0 || clear == 0 {
			return fmt.Errorf("on the bare gateway %d forged packets came in, %d packets left in clear: want both", forged, clear)
		}
		return nil
	})
	bare := g.rules(t)

	// The commands.
	packages, err := filepath.Glob(filepath.Join(os.Getenv("XFRMFW_PACKAGES"), "*"))
	if err != nil || len(packages) == 0 {
		t.Fatalf("nothing in XFRMFW_PACKAGES: %v", err)
	}
	for _, file := range packages {
		if !strings.HasSuffix(file, "_amd64.deb") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		g.write(t, filepath.Join("/root/packages", filepath.Base(file)), string(text))
	}
	g.Run(t, "cp", "-r", "/root/packages", "/tmp/packages") // from Debian 13 on /tmp is a mount of the running machine
	up()
	g.sh(t, withoutBuild(t, manual.Section(t, "## Install")[0].Text))
	same(t, "after the install", g.rules(t), bare)
	g.follow(t, "## First apply")
	g.follow(t, "## Keep it so")

	// Rules are enforced: a firewall that closes FORWARD shows that it is xfrmfw that lets the tunnel's traffic pass.
	g.inSync(t)
	g.Run(t, "iptables", "-P", "FORWARD", "DROP")
	flows(t, "after the quick start", ways...)
	r := g.report(t)
	if len(r.Tunnels) != 1 || r.Tunnels[0].State != "up" || r.Tunnels[0].Evidence != "tag+policy" || r.Tunnels[0].PacketsBy.Verified < 10 {
		t.Errorf("status shows %+v", r)
	}
	g.Run(t, "iptables", "-P", "FORWARD", "ACCEPT")
	down()
	g.inSync(t)
	g.refuses(t, "the tunnel is down", n.Bob, n.Alice.Inner(f))
	g.Run(t, "systemctl", "stop", "strongswan")
	g.refuses(t, "strongSwan has gone", n.Bob, n.Alice.Inner(f))
	g.Run(t, "systemctl", "start", "strongswan")
	up()
	g.inSync(t)
	flows(t, "strongSwan came back", ways...)
	g.healthy(t, "at the end")
	g.recipe(t, ways, alice)

	// The iptables of each release under the capability alone: from 1.8.12 on it runs under none that a file gives.
	dropIn(t, g.machine, "unprivileged.conf")
	g.Run(t, "systemctl", "restart", "xfrmfw-boot.service", "xfrmfw.service")
	if user := strings.TrimSpace(g.Run(t, "ps", "-o", "user=", "-p", g.show(t, "xfrmfw.service", "MainPID"))); user != "xfrmfw" {
		t.Errorf("the daemon runs as %s", user)
	}
	g.Run(t, "iptables", "-t", "mangle", "-F", "XFRMFW-TAG")
	g.inSync(t) // it repairs that
	flows(t, "as a user of its own", ways...)
	dropOut(t, g.machine)
	g.Run(t, "systemctl", "restart", "xfrmfw-boot.service", "xfrmfw.service")

	g.follow(t, "## Take it back")
	same(t, "taken back", g.rules(t), bare)
	g.checkout(t)
	g.sh(t, withoutBuild(t, manual.Section(t, "## Without a package")[0].Text))
	g.blocks += 2 // that and Install
	g.Run(t, "dpkg", "--purge", "xfrmfw")
	g.Run(t, "/usr/local/sbin/xfrmfw", "apply")
	flows(t, "without a package", ways...)
}
