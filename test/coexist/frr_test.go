package coexist

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// A router is zebra and bgpd of FRR on a gateway.
type router struct {
	host *lab.Host
	dir  string
	as   int
}

// startFRR starts FRR, which announces the gateway's inner network to its peer by each of the neighbours, and prefers the
// first.
func startFRR(t *testing.T, g *lab.Host, as, peer int, neighbours ...netip.Addr) router {
	t.Helper()
	r := router{g, t.TempDir(), as}
	var config strings.Builder
	fmt.Fprintf(&config, "router bgp %d\n bgp router-id %s\n no bgp ebgp-requires-policy\n timers bgp 3 60\n", as, g.Inner(lab.IPv4))
	for i, a := range neighbours {
		fmt.Fprintf(&config, " neighbor %s remote-as %d\n neighbor %s timers connect 1\n neighbor %s advertisement-interval 0\n neighbor %s weight %d\n",
			a, peer, a, a, a, 200-i)
	}
	fmt.Fprintf(&config, " address-family ipv4 unicast\n  network %s\n", g.InnerNet(lab.IPv4))
	write(t, r.dir+"/zebra.conf", "hostname "+g.Name+"\n")
	write(t, r.dir+"/bgpd.conf", config.String())
	for _, program := range []string{"zebra", "bgpd"} {
		g.Start(t, nil, "/usr/lib/frr/"+program, "--config_file="+r.dir+"/"+program+".conf", "--pid_file="+r.dir+"/"+program+".pid",
			"--socket="+r.dir+"/zserv.api", "--vty_socket="+r.dir, "--user=root", "--group=root", "--log=stdout")
		lab.Eventually(t, 6*lab.Patience, func() error {
			if answer := r.try(t, "show version"); answer.Code != 0 {
				return fmt.Errorf("%s: %s%s", program, answer.Stdout, answer.Stderr)
			}
			return nil
		})
	}
	return r
}

// try has vtysh run commands.
func (r router) try(t *testing.T, commands ...string) lab.Result {
	t.Helper()
	args := []string{"--vty_socket", r.dir}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return r.host.Try(t, "", "vtysh", args...)
}

// shutdown ends the session with a neighbour, and its absence lets it come up again.
func (r router) shutdown(t *testing.T, down bool, neighbour netip.Addr) {
	t.Helper()
	word := "no "
	if down {
		word = ""
	}
	if answer := r.try(t, "configure terminal", fmt.Sprintf("router bgp %d", r.as), fmt.Sprintf("%sneighbor %s shutdown", word, neighbour)); answer.Code != 0 {
		t.Fatalf("vtysh: %s%s", answer.Stdout, answer.Stderr)
	}
}

// TestBGP: a leased line has the tunnel as its backup. FRR moves the route between them ten times there and back. Nothing may
// leave in clear by the WAN, and the firewall may drop no packet, though the routes move before the rules, and at either end at
// another time: both ways are known once they were used. Without both the default route is left. Packets forged by the WAN or by
// another network of the host's are dropped all the time, and after a boot.
func TestBGP(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	need(t, "/usr/lib/frr/bgpd")
	s := siteWith(t, lab.IPsec{Carrier: lab.VTI})
	s.sh(t, "groupadd -f -r frrvty", "usermod -aG frrvty root") // in the guest, as its package does for its user
	line := map[*lab.Host]netip.Addr{s.Moon: netip.MustParseAddr("10.9.0.1"), s.Sun: netip.MustParseAddr("10.9.0.2")}
	device := map[*lab.Host]netip.Addr{s.Moon: netip.MustParseAddr("10.8.0.1"), s.Sun: netip.MustParseAddr("10.8.0.2")}
	s.Moon.IP(t, "link add line0 type veth peer name line0 netns "+s.Sun.Netns())
	for _, g := range s.Gateways() {
		g.IP(t, fmt.Sprintf("addr add %s/30 dev line0", line[g]), "link set line0 up", fmt.Sprintf("addr add %s/30 dev vti0", device[g]),
			fmt.Sprintf("route delete %s", s.Peer(g).InnerNet(lab.IPv4)), fmt.Sprintf("route add default via %s", s.Peer(g).Outer(lab.IPv4)))
	}
	s.Sun.Iptables(t, lab.IPv4, "-A", "FORWARD", "-i", "line0", "-j", "ACCEPT")
	s.Sun.Iptables(t, lab.IPv4, "-A", "FORWARD", "-o", "line0", "-j", "ACCEPT")
	guest := s.guests(t)
	closed(t, s.Sun)
	sun := startFRR(t, s.Sun, 65002, 65001, line[s.Moon], device[s.Moon])
	startFRR(t, s.Moon, 65001, 65002, line[s.Sun], device[s.Sun])
	remote := s.Alice.Inner(lab.IPv4)
	routed := func(g *lab.Host, to netip.Addr, link string) {
		t.Helper()
		lab.Eventually(t, 6*lab.Patience, func() error {
			if route := g.Run(t, "ip", "route", "get", to.String()); !strings.Contains(route, " dev "+link+" ") {
				return fmt.Errorf("%s: %s is not by %s: %s%s", g.Name, to, link, route, sun.try(t, "show ip bgp").Stdout)
			}
			return nil
		})
	}
	by := func(link string) {
		t.Helper()
		routed(s.Sun, remote, link)
		routed(s.Moon, s.Bob.Inner(lab.IPv4), link)
	}
	sessions := func(n int) {
		t.Helper()
		lab.Eventually(t, 6*lab.Patience, func() error {
			if up := strings.Count(sun.try(t, "show bgp neighbors").Stdout, "BGP state = Established"); up != n {
				return fmt.Errorf("%d sessions", up)
			}
			return nil
		})
	}
	sessions(2)
	by("line0")
	daemon := followed(t, s.Sun)
	ways := []way{{s.Alice, s.bob}, {s.Bob, s.alice}}
	s.flows(t, "by the line", ways...)
	wire := s.Wire(t)
	away := func() {
		t.Helper()
		sun.shutdown(t, true, line[s.Moon])
		by("vti0")
		s.flows(t, "by the tunnel", ways...)
	}
	back := func() {
		t.Helper()
		sun.shutdown(t, false, line[s.Moon])
		by("line0")
		s.flows(t, "by the line", ways...)
		sessions(2)
	}
	away()
	lab.InSync(t, s.Sun)
	s.forge(t, "the route is by the tunnel", guest)
	back()
	lab.InSync(t, s.Sun)
	s.forge(t, "the route is by the line", guest)
	use, guards, chain := s.used(t), dropped(t, s.Sun), closedBy(t, s.Sun)
	for range 10 {
		away()
		back()
	}
	lost := use.stop(t)
	for name, n := range dropped(t, s.Sun) {
		if n -= guards[name]; n > 0 {
			t.Errorf("%d packets were dropped as %s", n, name)
		}
	}
	if n := closedBy(t, s.Sun) - chain; n > 0 {
		t.Errorf("%d packets were not accepted", n)
	}
	t.Logf("coexist: BGP: 20 moves: %d packets lost, dropped by guards %v, by the closed chain %d; before, in the first two moves, %v and %d",
		lost, dropped(t, s.Sun), closedBy(t, s.Sun)-chain, guards, chain)
	out := func(f lab.Frame) bool {
		return f.Link == "sun0" && lab.Between(s.Alice.InnerNet(lab.IPv4), s.Bob.InnerNet(lab.IPv4))(f)
	}
	if n := wire.Count(t, out); n > 0 {
		t.Errorf("%d packets left in clear by the WAN", n)
	}

	sun.shutdown(t, true, line[s.Moon])
	sun.shutdown(t, true, device[s.Moon])
	routed(s.Sun, remote, "wan0")
	s.Bob.MustNotPing(t, remote, 5)
	if n, all := wire.Count(t, out), dropped(t, s.Sun); n > 0 || all["leak"] < 5 {
		t.Errorf("with the default route alone %d packets left in clear, drops are %v", n, all)
	}
	s.forge(t, "the default route is left", guest)

	// A boot: the rules are those of the memory.
	daemon.Stop(t)
	s.Sun.MustXfrmfw(t, "clear")
	files, err := filepath.Glob(s.Sun.RunDir() + "/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("the run directory has no file: %v", err)
	}
	for _, f := range files {
		if err := os.RemoveAll(f); err != nil {
			t.Fatal(err)
		}
	}
	s.Down(t, s.tunnel)
	s.Sun.MustXfrmfw(t, "apply")
	s.forge(t, "the host has booted", guest)
	s.Bob.MustNotPing(t, remote, 2)
	s.Sun.IP(t, fmt.Sprintf("route add %s via %s", s.Alice.InnerNet(lab.IPv4), line[s.Moon]))
	s.Moon.IP(t, fmt.Sprintf("route add %s via %s", s.Bob.InnerNet(lab.IPv4), line[s.Sun]))
	s.flows(t, "by the line, after a boot", ways...)
	s.forge(t, "by the line, after a boot", guest)
	if n := wire.Count(t, out); n > 0 {
		t.Errorf("after a boot %d packets left in clear", n)
	}
}

// guests adds a network of strangers behind sun, which is let in to bob, as the WAN is.
func (s *site) guests(t *testing.T) *lab.Host {
	t.Helper()
	guest := lab.NewHosts(t, "guest")[0]
	s.Sun.IP(t, "link add guests0 type veth peer name eth0 netns "+guest.Netns(), "addr add 10.99.0.1/24 dev guests0", "link set guests0 up")
	guest.IP(t, "addr add 10.99.0.10/24 dev eth0", "link set eth0 up", "route add default via 10.99.0.1")
	for _, link := range []string{"guests0", "wan0"} {
		s.Sun.Iptables(t, lab.IPv4, "-A", "FORWARD", "-i", link, "-p", "udp", "--dport", "7000", "-j", "ACCEPT")
	}
	return guest
}

// forge sends packets with alice's address from the WAN and from another network behind sun: none may come to bob, though
// packets of the strangers' own do.
func (s *site) forge(t *testing.T, when string, guest *lab.Host) {
	t.Helper()
	for from, own := range map[*lab.Host]netip.Addr{s.Mallory: s.Mallory.Outer(lab.IPv4), guest: netip.MustParseAddr("10.99.0.10")} {
		forged, plain := when+": forged by "+from.Name, when+": plain by "+from.Name
		from.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(s.Alice.Inner(lab.IPv4), 7001), s.inbox.Addr, forged).Times(3)...)
		from.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(own, 7001), s.inbox.Addr, plain).Times(3)...)
		lab.Eventually(t, lab.Patience, func() error {
			if n := s.inbox.Count(plain); n != 3 {
				return fmt.Errorf("%s: %d of 3 arrived", plain, n)
			}
			return nil
		})
		if n := s.inbox.Count(forged); n > 0 {
			t.Errorf("%s: %d arrived", forged, n)
		}
	}
	s.done.forged += 6
}
