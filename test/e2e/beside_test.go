package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// bare runs the program under test with the nftables engine on a host on which no program of iptables is installed: a
// folder with nft and ip alone is in the place of /usr/sbin.
func bare(t *testing.T, h *lab.Host, env []string, args ...string) lab.Result {
	t.Helper()
	return h.Call(t, env, "", "sh", append([]string{"-c", `mount --bind "$1" /usr/sbin && shift && exec "$@"`, "sh", sbin(t, h), lab.Binary(t)}, args...)...)
}

// sbin is the folder of bare.
func sbin(t *testing.T, h *lab.Host) string {
	t.Helper()
	dir := filepath.Join(h.EtcDir(), "sbin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nft", "ip"} {
		program, err := os.ReadFile(filepath.Join("/usr/sbin", name))
		if err != nil {
			continue // it is elsewhere, and stays
		}
		if err := os.WriteFile(filepath.Join(dir, name), program, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// acceptLine matches a line that the program prints for the host's own rules.
var acceptLine = regexp.MustCompile(`(?m)^ *(input|forward|output) +(.*accept)$`)

// hostTable is a table of the host that drops by default in all hooks and accepts by printed lines.
func hostTable(t *testing.T, printed string, priority int) string {
	t.Helper()
	lines := make(map[string][]string)
	for _, found := range acceptLine.FindAllStringSubmatch(printed, -1) {
		lines[found[1]] = append(lines[found[1]], found[2])
	}
	var b strings.Builder
	b.WriteString("table inet host {\n")
	for _, hook := range []string{"input", "forward", "output"} {
		if len(lines[hook]) == 0 {
			t.Fatalf("no line for %s is printed:\n%s", hook, printed)
		}
		fmt.Fprintf(&b, "chain %s { type filter hook %s priority %d; policy drop;\nmeta l4proto ipv6-icmp icmpv6 type { 133, 134, 135, 136 } accept\n%s\n}\n",
			hook, hook, priority, strings.Join(lines[hook], "\n"))
	}
	return b.String() + "}\n"
}

// TestHostWithoutIptables has a gateway without a program of iptables: the nftables engine does everything there, and the
// iptables engine says why it can't.
func TestHostWithoutIptables(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	n := lab.NewNetwork(t)
	must := func(args ...string) string {
		t.Helper()
		r := bare(t, n.Sun, nil, append([]string{"--engine", "nftables"}, args...)...)
		if r.Code != 0 {
			t.Fatalf("xfrmfw %s: exit status %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
		}
		return r.Stdout
	}
	if r := bare(t, n.Sun, nil, "--engine", "iptables", "apply"); r.Code != 1 || !strings.Contains(r.Stderr, "engine: nftables") {
		t.Errorf("the iptables engine without its programs: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	tunnels := []lab.IPsec{{}, {Inner: lab.IPv6, Reqid: 12}}
	for _, c := range tunnels {
		n.Up(t, c)
	}
	n.Sun.RunInput(t, hostTable(t, must("apply"), 0), "nft", "-f", "-")
	pass := func(when string) {
		t.Helper()
		for _, f := range lab.Families {
			for _, w := range []struct {
				from *lab.Host
				to   netip.Addr
			}{{n.Alice, n.Bob.Inner(f)}, {n.Bob, n.Alice.Inner(f)}, {n.Alice, n.Sun.Inner(f)}} {
				if p := w.from.Ping(t, w.to, 2); p.Received != 2 {
					t.Errorf("%s: %s to %s: %d of 2", when, w.from.Name, w.to, p.Received)
				}
			}
		}
	}
	pass("applied")
	if out := must("check"); !strings.HasPrefix(out, "in sync: 2 tunnels") {
		t.Errorf("check: %s", out)
	}
	if out := must("status", "--json"); !strings.Contains(out, `"variant": null`) || !strings.Contains(out, `"in_sync": true`) {
		t.Errorf("status: %s", out)
	}

	// The hook has a tunnel guarded and verified that is new.
	third := lab.IPsec{Reqid: 13, MoonNets: prefixes("10.1.3.0/24"), SunNets: prefixes("10.2.0.0/24")}
	n.Alice.IP(t, "addr add 10.1.3.10/24 dev eth0")
	n.Moon.IP(t, "route add 10.1.3.0/24 dev lan0")
	n.Sun.IP(t, fmt.Sprintf("route add 10.1.3.0/24 via %s", n.Moon.Outer(lab.IPv4)))
	n.Up(t, third)
	if r := bare(t, n.Sun, []string{"PLUTO_VERB=up-client"}, "--engine", "nftables", "hook"); r.Code != 0 {
		t.Fatalf("hook: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	lab.Eventually(t, 6*lab.Patience, func() error {
		if p := n.Alice.Ping(t, n.Bob.Inner(lab.IPv4), 1, "-I", "10.1.3.10"); p.Received == 0 {
			return fmt.Errorf("by the hook: %s", p.Output)
		}
		return nil
	})

	// The daemon follows the kernel.
	daemon := n.Sun.Start(t, nil, "sh", "-c", `mount --bind "$1" /usr/sbin && shift && exec "$@"`, "sh", sbin(t, n.Sun), lab.Binary(t), "--engine", "nftables", "daemon")
	lab.Eventually(t, 6*lab.Patience, func() error {
		if r := bare(t, n.Sun, nil, "--engine", "nftables", "status"); !strings.Contains(r.Stdout, "daemon running") {
			return fmt.Errorf("no daemon: %s%s\n%s", r.Stdout, r.Stderr, daemon.Output())
		}
		return nil
	})
	n.Down(t, third)
	n.Up(t, third)
	lab.Eventually(t, 6*lab.Patience, func() error {
		if p := n.Alice.Ping(t, n.Bob.Inner(lab.IPv4), 1, "-I", "10.1.3.10"); p.Received == 0 {
			return fmt.Errorf("by the daemon: %s", p.Output)
		}
		return nil
	})

	// Without the tunnels the guards drop what pretends to be theirs, and what would leave in clear.
	n.Sun.RunInput(t, "flush table inet host\nadd chain inet host input { policy accept; }\nadd chain inet host forward { policy accept; }\nadd chain inet host output { policy accept; }\n", "nft", "-f", "-")
	for _, c := range append(tunnels, third) {
		n.Down(t, c)
	}
	lab.Eventually(t, 6*lab.Patience, func() error {
		if r := bare(t, n.Sun, nil, "--engine", "nftables", "check"); r.Code != 0 {
			return fmt.Errorf("check: %s", r.Stdout)
		}
		return nil
	})
	guarded(t, n, "down")
	if code := daemon.Stop(t); code != 0 {
		t.Errorf("the daemon ended with %d", code)
	}
	must("clear")
	if r := n.Sun.Try(t, "", "nft", "list", "table", "inet", "xfrmfw"); r.Code == 0 {
		t.Errorf("clear left behind:\n%s", r.Stdout)
	}
}

// guarded has mallory send packets in clear with alice's address, and bob packets to alice while no tunnel is up. None may
// get through, though packets of no tunnel do.
func guarded(t *testing.T, n *lab.Network, when string) {
	t.Helper()
	wire := n.Wire(t)
	for _, f := range lab.Families {
		inbox := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7900))
		n.Mallory.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(n.Alice.Inner(f), 7001), inbox.Addr, "forged").Times(3)...)
		n.Bob.SendUDP(t, netip.AddrPort{}, netip.AddrPortFrom(n.Alice.Inner(f), 7901), "leaked", 3)
		lab.Eventually(t, lab.Patience, func() error {
			n.Mallory.SendUDP(t, netip.AddrPort{}, inbox.Addr, "own", 1)
			if inbox.Count("own") == 0 {
				return fmt.Errorf("%s: what mallory sends as himself does not arrive", when)
			}
			return nil
		})
		if got := inbox.Count("forged"); got != 0 {
			t.Errorf("%s: %v: %d of 3 forged packets came through", when, f, got)
		}
		if got := wire.Count(t, func(frame lab.Frame) bool {
			return frame.Link == "sun0" && strings.Contains(string(frame.Payload), "leaked")
		}); got != 0 {
			t.Errorf("%s: %v: %d of 3 packets left in clear", when, f, got)
		}
	}
}

// TestOrderBesideOthers has the table stand beside rules of iptables-legacy, written before it and after it, and beside
// the host's own table with the printed lines, in chains of the priorities that they may have.
func TestOrderBesideOthers(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	n := lab.NewNetwork(t)
	f := lab.IPv4
	n.Up(t, lab.IPsec{})
	configure(t, n.Sun, "engine: nftables\naccept: none\n")
	lines := n.Sun.MustXfrmfw(t, "--engine", "nftables", "apply")
	n.Sun.MustXfrmfw(t, "--engine", "nftables", "clear")
	legacy := func() {
		for _, line := range []string{"-P INPUT DROP", "-P FORWARD DROP", "-A INPUT -i lo -j ACCEPT", "-A INPUT -p esp -j ACCEPT", "-A INPUT -m mark --mark 0x20000000/0x20000000 -j ACCEPT",
			"-A FORWARD -m mark --mark 0x20000000/0x20000000 -j ACCEPT"} {
			n.Sun.Run(t, "iptables-legacy", strings.Fields(line)...)
		}
	}
	own := func(priority int) func() {
		return func() { n.Sun.RunInput(t, hostTable(t, lines, priority), "nft", "-f", "-") }
	}
	for _, c := range []struct {
		name   string
		rules  func()
		first  bool // the host's rules stand before ours
		passes bool
	}{
		{"legacy rules first", legacy, true, true},
		{"table first", legacy, false, true},
		{"own table at 0 first", own(0), true, true},
		{"own table at 0 later", own(0), false, true},
		{"own table at -4 later", own(-4), false, true},
		// At our own priority the chain that is registered later is asked first, before the mark is on the packet.
		{"own table at -5 later", own(-5), false, false},
		{"own table at -5 first", own(-5), true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.first {
				c.rules()
			}
			n.Sun.MustXfrmfw(t, "--engine", "nftables", "apply")
			if !c.first {
				c.rules()
			}
			want := 0
			if c.passes {
				want = 3
			}
			for _, w := range []struct {
				from *lab.Host
				to   netip.Addr
			}{{n.Alice, n.Bob.Inner(f)}, {n.Bob, n.Alice.Inner(f)}, {n.Alice, n.Sun.Inner(f)}} {
				if p := w.from.Ping(t, w.to, 3, "-i", "0.2"); p.Received != want {
					t.Errorf("%s to %s: %d of 3, want %d", w.from.Name, w.to, p.Received, want)
				}
			}
			if !c.passes {
				if r := n.Sun.Xfrmfw(t, "--engine", "nftables", "doctor", "--interval", "0s"); r.Code == 0 || !strings.Contains(r.Stdout, "inet host") {
					t.Errorf("doctor says nothing of a chain that drops what is verified:\n%s", r.Stdout)
				}
			}
			n.Sun.Try(t, "", "nft", "delete", "table", "inet", "host")
			for _, line := range []string{"-P INPUT ACCEPT", "-P FORWARD ACCEPT", "-F"} {
				n.Sun.Run(t, "iptables-legacy", strings.Fields(line)...)
			}
			n.Sun.MustXfrmfw(t, "--engine", "nftables", "clear")
		})
	}
	n.Sun.MustXfrmfw(t, "--engine", "nftables", "apply")
	n.Down(t, lab.IPsec{})
	n.Sun.MustXfrmfw(t, "--engine", "nftables", "apply")
	guarded4 := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7900))
	n.Mallory.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(n.Alice.Inner(f), 7001), guarded4.Addr, "forged").Times(3)...)
	n.Mallory.SendUDP(t, netip.AddrPort{}, guarded4.Addr, "own", 1)
	lab.Eventually(t, lab.Patience, func() error {
		if guarded4.Count("own") == 0 {
			return fmt.Errorf("what mallory sends as himself does not arrive")
		}
		return nil
	})
	if got := guarded4.Count("forged"); got != 0 {
		t.Errorf("%d of 3 forged packets came through", got)
	}
}

// TestSourceIsKept has other programs masquerade everything that leaves by the WAN. The identity binding keeps address
// and port of a flow into the tunnel, whatever the priority of their chains, and leaves other flows to them.
func TestSourceIsKept(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	n := lab.NewNetwork(t)
	n.Up(t, lab.IPsec{})
	n.Up(t, lab.IPsec{Inner: lab.IPv6, Reqid: 12})
	n.Sun.MustXfrmfw(t, "--engine", "nftables", "apply")
	for _, f := range lab.Families {
		n.Sun.Iptables(t, f, "-t", "nat", "-I", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE")
	}
	n.Sun.RunInput(t, "table inet other {\nchain early { type nat hook postrouting priority 90; oifname \"wan0\" masquerade random; }\n"+
		"chain late { type nat hook postrouting priority 110; oifname \"wan0\" masquerade random; }\n}\n", "nft", "-f", "-")
	for i, f := range lab.Families {
		port := uint16(7100 + 10*i)
		alice := n.Alice.ListenUDP(t, netip.AddrPortFrom(n.Alice.Inner(f), port))
		mallory := n.Mallory.ListenUDP(t, netip.AddrPortFrom(n.Mallory.Outer(f), port))
		bob := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), port+1))
		for _, to := range []*lab.Inbox{alice, mallory} {
			lab.Eventually(t, lab.Patience, func() error {
				if err := bob.Send(to.Addr, "flow"); err != nil {
					return err
				}
				if to.Count("flow") == 0 {
					return fmt.Errorf("%v: nothing arrives", to.Addr)
				}
				return nil
			})
		}
		for _, d := range alice.Datagrams() {
			if d.From != bob.Addr {
				t.Errorf("into the tunnel: from %v, want %v", d.From, bob.Addr)
			}
		}
		for _, d := range mallory.Datagrams() {
			if d.From.Addr() != n.Sun.Outer(f) {
				t.Errorf("beside the tunnel: from %v, want %v, which others masquerade", d.From, n.Sun.Outer(f))
			}
		}
	}
}

// TestRefusalEnds has the gateway's own TCP leak while the tunnel is down: the first packet of a flow is dropped behind all
// NAT, and the second is refused. A refusal is remembered for 10 s, and ends at once when the tunnel is up.
func TestRefusalEnds(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	const f = lab.IPv4
	n, c := lab.NewNetwork(t), lab.IPsec{}
	n.Up(t, c)
	apply := func() {
		for _, g := range n.Gateways() {
			g.MustXfrmfw(t, "--engine", "nftables", "apply")
		}
	}
	apply()
	n.Down(t, c)
	apply()
	at := n.Alice.ServeTCP(t, netip.AddrPortFrom(n.Alice.Inner(f), 7000))
	from := netip.AddrPortFrom(n.Sun.Inner(f), 7001)
	began := time.Now()
	conn, err := n.Sun.DialTCP(t, from, at, 9*time.Second)
	if err == nil {
		_ = conn.Close()
		t.Fatal("a connection in clear")
	}
	refused := time.Since(began)
	if errors.Is(err, os.ErrDeadlineExceeded) || refused > 5*time.Second {
		t.Errorf("not refused within 5 s, but after %s: %v", refused, err)
	}
	n.Up(t, c)
	again := time.Now()
	if conn, err = n.Sun.DialTCP(t, from, at, 9*time.Second); err != nil {
		t.Fatalf("%s after the refusal, with the tunnel up: %v", time.Since(began)-refused, err)
	}
	_ = conn.Close()
	t.Logf("refused after %s; open again after %s, %s after the refusal", refused, time.Since(again), time.Since(began)-refused)
	if time.Since(began) > 10*time.Second {
		t.Log("too slow to show that the refusal ends before its time")
	}
}

// TestVRF has a gateway with its WAN in a VRF, whose device queues packets: those pass the hooks twice. The pass by the
// port is judged.
func TestVRF(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	n := lab.NewNetwork(t)
	f := lab.IPv4
	n.Sun.IP(t, "link add red type vrf table 10", "link set red up", "link set wan0 master red", "link set lan0 master red",
		fmt.Sprintf("route add %s via %s vrf red", n.Moon.InnerNet(f), n.Moon.Outer(f)))
	n.Sun.Run(t, "tc", "qdisc", "add", "dev", "red", "root", "pfifo")
	n.Sun.Sysctl(t, "net/ipv4/conf/red/rp_filter=0")
	closed(t, n.Sun)
	n.Up(t, lab.IPsec{})
	n.Sun.MustXfrmfw(t, "apply")
	own := []string{"-I", "red", "-I", n.Sun.Inner(f).String()}
	// Output of the host's own is open, and the answers to it come out of the tunnel.
	for _, w := range []struct {
		name string
		from *lab.Host
		to   netip.Addr
		by   []string
	}{
		{"in, forwarded", n.Alice, n.Bob.Inner(f), nil}, {"in, to the gateway", n.Alice, n.Sun.Inner(f), nil},
		{"out, forwarded", n.Bob, n.Alice.Inner(f), nil}, {"out, of the gateway", n.Sun, n.Alice.Inner(f), own},
	} {
		if p := w.from.Ping(t, w.to, 3, w.by...); p.Received != 3 {
			t.Errorf("%s: %d of 3\n%s", w.name, p.Received, p.Output)
		}
	}
	for name, count := range drops(t, n.Sun) {
		if count != 0 {
			t.Errorf("%d packets dropped as %s", count, name)
		}
	}

	// Nothing but the guards is in the way now.
	n.Sun.Rules(t, f, "filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]")
	n.Down(t, lab.IPsec{})
	n.Sun.MustXfrmfw(t, "apply")
	wire := n.Wire(t)
	inbox := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7000))
	n.Mallory.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(n.Alice.Inner(f), 7001), inbox.Addr, "forged").Times(3)...)
	n.Bob.SendUDP(t, netip.AddrPort{}, netip.AddrPortFrom(n.Alice.Inner(f), 7001), "leaked", 3)
	n.Sun.Ping(t, n.Alice.Inner(f), 2, own...)
	lab.Eventually(t, lab.Patience, func() error {
		n.Mallory.SendUDP(t, netip.AddrPort{}, inbox.Addr, "own", 1)
		if inbox.Count("own") == 0 {
			return fmt.Errorf("what mallory sends as himself does not arrive")
		}
		return nil
	})
	if got := inbox.Count("forged"); got != 0 {
		t.Errorf("%d of 3 forged packets came through", got)
	}
	if got := wire.Count(t, func(frame lab.Frame) bool {
		return frame.Link == "sun0" && lab.Between(n.Moon.InnerNet(f), n.Sun.InnerNet(f))(frame) && frame.Dst == n.Alice.Inner(f)
	}); got != 0 {
		t.Errorf("%d packets left in clear", got)
	}
}
