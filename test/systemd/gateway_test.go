package systemd

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/test/manual"
)

// A gateway is a bare Debian on which strongSwan runs, on a network where its
// administrator follows README.md and the manual pages.
type gateway struct {
	*lab.Network
	*machine
	host  *lab.Host // its network is the machine's
	inbox *lab.Inbox
	// Counts of the log: blocks of commands run, packets forged, packets that would leave in clear.
	blocks, forged, leaks int
}

// newGateway boots it on that host of a network. The package is a file on it, and installed only if asked for.
func newGateway(t *testing.T, n *lab.Network, h *lab.Host, installed bool) *gateway {
	t.Helper()
	g := &gateway{Network: n, machine: newMachine(t, gatewayDebian), host: h}
	t.Cleanup(func() {
		t.Logf("coexist: documents, %s: %d blocks of commands as they stand there; %d forged packets and %d that would leave in clear, all refused",
			strings.TrimPrefix(t.Name(), "Test"), g.blocks, g.forged, g.leaks)
	})
	g.inbox = n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(lab.IPv4), 7000))
	deb := packageFile(t, g.machine)
	g.boot(t, h)
	if installed {
		g.Run(t, "dpkg", "-i", deb)
	}
	if state := g.show(t, "strongswan.service", "ActiveState"); state != "active" {
		t.Fatalf("strongSwan is %s", state)
	}
	t.Logf("versions: %s", strings.ReplaceAll(strings.TrimSpace(g.Run(t, "sh", "-c", versions)), "\n", ", "))
	return g
}

// versions prints what the gateway is, as its programs themselves say it.
const versions = `sed -n 's/^PRETTY_NAME="*\([^"]*\)"*/\1/p' /etc/os-release
uname -sr
iptables --version
swanctl --version | head -n 1
systemctl --version | head -n 1`

// sh runs lines of shell as if pasted by the administrator, and logs them with their output. A line that fails fails the
// test.
func (g *gateway) sh(t *testing.T, lines string) string {
	t.Helper()
	begin := time.Now()
	r := g.Try(t, "sh", "-ec", "cd /root\n"+lines)
	t.Logf("%.0f s:\n%s\n%s", time.Since(begin).Seconds(), strings.TrimSpace(lines), r.Stdout+r.Stderr)
	if r.Code != 0 {
		t.Fatalf("exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// follow runs all blocks of a section of the documents and returns their text.
func (g *gateway) follow(t *testing.T, heading string) string {
	t.Helper()
	var all strings.Builder
	for _, block := range manual.Section(t, heading) {
		t.Logf("%s:%d", block.Document, block.Line)
		g.sh(t, block.Text)
		g.blocks++
		all.WriteString(block.Text)
	}
	return all.String()
}

var secretLine = regexp.MustCompile(`secret = "(.*)"`)

// secret is one that a recipe has, for the peer: the first after a text.
func secret(t *testing.T, recipe, after string) string {
	t.Helper()
	_, rest, found := strings.Cut(recipe, after)
	words := secretLine.FindStringSubmatch(rest)
	if !found || words == nil {
		t.Fatalf("the recipe has no secret after %q", after)
	}
	return words[1]
}

// A peer is one connection of an IKE daemon of the lab, with one child of the same name.
type peer struct {
	name, local, remote, id, peerID, secret string
	connection, child                       []string // more lines
}

func (p peer) conf() (connection, secrets string) {
	connection = fmt.Sprintf(`	%[1]s {
		version = 2
		proposals = aes128-sha256-ecp256
		%[2]s
		remote_addrs = %[3]s
		%[4]s
		local {
			auth = psk
			id = %[5]s
		}
		remote {
			auth = psk
			id = %[6]s
		}
		children {
			%[1]s {
				esp_proposals = aes128gcm16
				%[7]s
			}
		}
	}
`, p.name, p.local, p.remote, strings.Join(p.connection, "\n\t\t"), p.id, p.peerID, strings.Join(p.child, "\n\t\t\t\t"))
	secrets = fmt.Sprintf("\tike-%s {\n\t\tid-1 = %s\n\t\tid-2 = %s\n\t\tsecret = \"%s\"\n\t}\n", p.name, p.id, p.peerID, p.secret)
	return connection, secrets
}

// swanctlConf is a swanctl.conf with these peers.
func swanctlConf(peers ...peer) string {
	var connections, secrets strings.Builder
	for _, p := range peers {
		connection, secret := p.conf()
		connections.WriteString(connection)
		secrets.WriteString(secret)
	}
	return "connections {\n" + connections.String() + "}\nsecrets {\n" + secrets.String() + "}\n"
}

// A way is one from a host through the tunnel to a server, from an address of that host if one is given.
type way struct {
	from *lab.Host
	src  netip.AddrPort
	to   netip.AddrPort
}

func (w way) try(t *testing.T, limit time.Duration) error {
	t.Helper()
	conn, err := w.from.DialTCP(t, w.src, w.to, limit)
	if err != nil {
		return err
	}
	defer conn.Close()
	return lab.EchoTCP(conn, "through the tunnel", limit)
}

// flows fails the test unless new flows come about by each way.
func flows(t *testing.T, when string, ways ...way) {
	t.Helper()
	for _, w := range ways {
		if err := w.try(t, 2*lab.Patience); err != nil {
			t.Fatalf("%s: %s to %s: %v", when, w.from.Name, w.to, err)
		}
	}
}

// shut fails the test if a flow comes about by one of the ways. A slow one passes unseen, so another that the same rules
// let in has to be tried as well.
func shut(t *testing.T, when string, ways ...way) {
	t.Helper()
	for _, w := range ways {
		if err := w.try(t, 3*time.Second); err == nil {
			t.Errorf("%s: %s reached %s", when, w.from.Name, w.to)
		}
	}
}

// serve has a server on that port of a host's inner address.
func serve(t *testing.T, h *lab.Host, port uint16) netip.AddrPort {
	t.Helper()
	return h.ServeTCP(t, netip.AddrPortFrom(h.Inner(lab.IPv4), port))
}

// eventuallyPings waits until a ping is answered.
func eventuallyPings(t *testing.T, from *lab.Host, to netip.Addr, words ...string) {
	t.Helper()
	lab.Eventually(t, bootPatience, func() error {
		if p := from.Ping(t, to, 1, words...); p.Received == 0 {
			return fmt.Errorf("%s does not reach %s: %s", from.Name, to, p.Output)
		}
		return nil
	})
}

// report is the part of status --json that the tests read.
type report struct {
	Tunnels []struct {
		Name, Connection, State, Evidence string
		PeerID                            string                 `json:"peer_id"`
		PacketsBy                         struct{ Verified int } `json:"packets_by"`
	}
	Drops    map[string]struct{ Packets int }
	Warnings []string
}

func (g *gateway) report(t *testing.T) report {
	t.Helper()
	var r report
	if err := json.Unmarshal([]byte(g.Run(t, "xfrmfw", "status", "--json")), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// inSync waits until the daemon has caught up with the kernel.
func (g *gateway) inSync(t *testing.T) {
	t.Helper()
	lab.Eventually(t, bootPatience, func() error {
		if r := g.Try(t, "xfrmfw", "check"); r.Code != 0 {
			return fmt.Errorf("xfrmfw check: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
		return nil
	})
}

// healthy fails the test if doctor finds anything but notes.
func (g *gateway) healthy(t *testing.T, when string) {
	t.Helper()
	if r := g.Try(t, "xfrmfw", "doctor"); r.Code != 0 {
		t.Errorf("%s: xfrmfw doctor: exit status %d\n%s%s", when, r.Code, r.Stdout, r.Stderr)
	}
}

// forge has mallory send bob packets in clear, as if from an address behind the tunnel.
func (g *gateway) forge(t *testing.T, src netip.Addr) {
	t.Helper()
	g.Mallory.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(src, 7001), g.inbox.Addr, "forged").Times(3)...)
}

// refuses fails the test unless the gateway drops packets that are forged as from the
// remote network, and packets of a host behind it to there. Its tunnel is down.
func (g *gateway) refuses(t *testing.T, when string, inside *lab.Host, remote netip.Addr) {
	t.Helper()
	before := g.report(t)
	arrived, wire := g.inbox.Count("forged"), g.Wire(t)
	g.forge(t, remote)
	inside.MustNotPing(t, remote, 3)
	lab.Eventually(t, lab.Patience, func() error {
		now := g.report(t)
		for _, kind := range []string{"spoof", "leak"} {
			if now.Drops[kind].Packets < before.Drops[kind].Packets+3 {
				return fmt.Errorf("%s: drops were %v and are %v: want 3 more of each", when, before.Drops, now.Drops)
			}
		}
		return nil
	})
	if got := g.inbox.Count("forged"); got != arrived {
		t.Errorf("%s: %d forged packets came to bob", when, got-arrived)
	}
	leaked := func(f lab.Frame) bool { return f.Link != "mallory0" && f.Dst == remote }
	if got := wire.Count(t, leaked); got != 0 {
		t.Errorf("%s: %d packets left in clear: %v", when, got, wire.Frames(t))
	}
	g.forged += 3
	g.leaks += 3
}

// checkout puts the files of a checkout after a build into /root, where the commands run.
func (g *gateway) checkout(t *testing.T) {
	t.Helper()
	for from, to := range map[string]string{lab.Binary(t): "/root/xfrmfw", "../../scripts/dist/updown": "/root/scripts/dist/updown"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		g.write(t, to, string(text))
		if err := os.Chmod(filepath.Join(g.root, to), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
