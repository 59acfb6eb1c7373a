package coexist

import (
	"fmt"
	"net/netip"
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
// another time: both ways are known once they were used. Without both the default route is left.
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
	followed(t, s.Sun)
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
	back()
	lab.InSync(t, s.Sun)
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
}
