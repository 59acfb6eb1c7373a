package systemd

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/test/manual"
)

// TestSiteToSite runs the recipe, and that for moving over from strongSwan's own script, where the tunnel was up with that.
func TestSiteToSite(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	f := lab.IPv4
	n := lab.NewNetwork(t)
	g := newGateway(t, n, n.Sun, true)
	recipe := g.follow(t, "## Site to site")
	n.Moon.StartCharon(t, swanctlConf(peer{
		name: "office", local: "local_addrs = 192.0.2.1", remote: "192.0.2.2", id: "moon.example.org", peerID: "sun.example.org",
		secret: secret(t, recipe, "ike-office"), child: []string{"local_ts = 10.1.0.0/24", "remote_ts = 10.2.0.0/24"},
	}))
	wire := n.Wire(t)

	eventuallyPings(t, n.Bob, n.Alice.Inner(f)) // brings the tunnel up
	g.inSync(t)
	alice := serve(t, n.Alice, 7100)
	ssh := n.Sun.ServeTCP(t, netip.AddrPortFrom(n.Sun.Outer(f), 22))
	other := n.Sun.ServeTCP(t, netip.AddrPortFrom(n.Sun.Outer(f), 7100))
	allowed := []way{{from: n.Bob, to: alice}, {from: n.Alice, to: serve(t, n.Bob, 22)}, {from: n.Alice, to: serve(t, n.Bob, 443)}, {from: n.Mallory, to: ssh}}
	flows(t, "up", allowed...)
	n.Alice.MustPing(t, n.Bob.Inner(f), 2)
	shut(t, "up", way{from: n.Alice, to: serve(t, n.Bob, 7100)}, way{from: n.Mallory, to: other})
	lab.Eventually(t, lab.Patience, func() error { // the hook tells after the tunnel stands
		r := g.report(t)
		if len(r.Tunnels) != 1 || r.Tunnels[0].Name != "office" || r.Tunnels[0].Connection != "office" ||
			r.Tunnels[0].PeerID != "moon.example.org" || r.Tunnels[0].Evidence != "tag+policy" || len(r.Warnings) > 0 {
			return fmt.Errorf("status shows %+v", r)
		}
		return nil
	})
	g.healthy(t, "site to site")

	// As it was before xfrmfw, with strongSwan's script; then as the recipe has it.
	g.Run(t, "systemctl", "disable", "--now", "xfrmfw")
	g.Run(t, "xfrmfw", "clear")
	g.sh(t, `sed -i 's|updown = .*|updown = /usr/lib/ipsec/_updown iptables|' /etc/swanctl/conf.d/office.conf
swanctl --load-all
swanctl --terminate --ike office
iptables -P FORWARD DROP
swanctl --initiate --child office || true # traffic may have brought it up`)
	eventuallyPings(t, n.Alice, n.Bob.Inner(f))
	if rules := g.Run(t, "iptables", "-S", "FORWARD"); strings.Count(rules, "-m policy") != 2 {
		t.Fatalf("strongSwan's script did not write its rules:\n%s", rules)
	}
	flows(t, "strongSwan's script", allowed...)
	g.follow(t, "## Moving over from `_updown iptables`")
	lab.Eventually(t, bootPatience, func() error {
		if rules := g.Run(t, "iptables", "-S", "FORWARD"); strings.Contains(rules, "-m policy") {
			return fmt.Errorf("strongSwan's rules are left:\n%s", rules)
		}
		return nil
	})
	g.inSync(t)
	flows(t, "moved over", allowed...)
	shut(t, "moved over", way{from: n.Mallory, to: other})
	g.healthy(t, "moved over")

	g.Run(t, "systemctl", "stop", "strongswan")
	g.Run(t, "iptables", "-P", "FORWARD", "ACCEPT")
	g.Run(t, "xfrmfw", "apply")
	g.refuses(t, "strongSwan has gone", n.Bob, n.Alice.Inner(f))
	if got := wire.Count(t, func(f lab.Frame) bool { return f.Link == "sun0" && f.Dst == n.Alice.Inner(lab.IPv4) }); got != 0 {
		t.Errorf("%d packets left in clear", got)
	}
}

var virtualIP = regexp.MustCompile(`(?s)\b(admin|ann): #\d+, ESTABLISHED.*?\n  local .*?\[(10\.3\.0\.\d+)\]`)

// TestRoadWarriors runs the recipe with two of them behind one router: their identities
// decide which one has more rights.
func TestRoadWarriors(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	f := lab.IPv4
	n := lab.NewNetwork(t)
	n.Moon.IP(t, "route del 10.2.0.0/24")
	n.Moon.Iptables(t, f, "-t", "nat", "-A", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE")
	n.Sun.IP(t, "route add 10.3.0.0/24 via 192.0.2.1")
	g := newGateway(t, n, n.Sun, true)
	recipe := g.follow(t, "## Road warriors")
	g.Run(t, "iptables", "-P", "FORWARD", "DROP")
	who := []string{"admin", "ann"}
	var peers []peer
	for _, name := range who {
		peers = append(peers, peer{
			name: name, remote: "192.0.2.2", id: name + "@example.org", peerID: "sun.example.org", secret: secret(t, recipe, "ike-"+name),
			connection: []string{"vips = 0.0.0.0", "mobike = no"}, child: []string{"remote_ts = 10.2.0.0/24"},
		})
	}
	client := n.Alice.StartCharon(t, swanctlConf(peers...), "install_routes = no")
	wire := n.Wire(t)
	client.SwanctlEach(t, "--initiate --timeout 90 --child admin", "--initiate --timeout 90 --child ann")
	has := map[string]netip.Addr{}
	for _, words := range virtualIP.FindAllStringSubmatch(client.Swanctl(t, "--list-sas"), -1) {
		has[words[1]] = netip.MustParseAddr(words[2])
	}
	if len(has) != 2 {
		t.Fatalf("the client has %v:\n%s", has, client.Swanctl(t, "--list-sas"))
	}
	for _, name := range who {
		eventuallyPings(t, n.Alice, n.Bob.Inner(f), "-I", has[name].String())
	}
	lab.Eventually(t, bootPatience, func() error {
		known := map[string]bool{}
		r := g.report(t)
		for _, tunnel := range r.Tunnels {
			known[tunnel.PeerID] = true
		}
		if !known["admin@example.org"] || !known["ann@example.org"] || len(r.Warnings) > 0 {
			return fmt.Errorf("status shows %+v", r)
		}
		return nil
	})
	g.inSync(t)
	https, other := serve(t, n.Bob, 443), serve(t, n.Bob, 7100)
	from := func(name string, to netip.AddrPort) way { return way{n.Alice, netip.AddrPortFrom(has[name], 0), to} }
	flows(t, "road warriors", from("admin", https), from("ann", https), from("admin", other))
	shut(t, "road warriors", from("ann", other))
	g.healthy(t, "road warriors")

	// The lease is not remembered; the pool is guarded by the configuration.
	g.Run(t, "systemctl", "stop", "strongswan")
	g.inSync(t)
	g.Run(t, "iptables", "-P", "FORWARD", "ACCEPT")
	g.refuses(t, "strongSwan has gone", n.Bob, has["ann"])
	if wire.Count(t, lab.IsNATT) == 0 {
		t.Error("no ESP in UDP: the router was not in between")
	}
}

// TestBehindNAT runs the recipe on a gateway behind moon, which knows nothing of IPsec, with carol behind it.
func TestBehindNAT(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	f := lab.IPv4
	n := lab.NewNetwork(t)
	n.Moon.IP(t, "route del 10.2.0.0/24")
	n.Moon.Iptables(t, f, "-t", "nat", "-A", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE")
	carol := lab.NewHosts(t, "carol")[0]
	n.Alice.Sysctl(t, "net/ipv4/ip_forward=1")
	n.Alice.IP(t, "link add lan0 type veth peer name eth0 netns "+carol.Netns(), "addr add 10.9.0.1/24 dev lan0", "link set lan0 up")
	carol.IP(t, "addr add 10.9.0.10/24 dev eth0", "link set eth0 up", "route add default via 10.9.0.1")
	carolAddr := netip.MustParseAddr("10.9.0.10")

	g := newGateway(t, n, n.Alice, true)
	var recipe string
	for _, block := range manual.Section(t, "## Behind NAT") {
		recipe += block.Text
	}
	sun := n.Sun.StartCharon(t, swanctlConf(peer{
		name: "branch", local: "local_addrs = 192.0.2.2", remote: "%any", id: "sun.example.org", peerID: "branch.example.org",
		secret: secret(t, recipe, "ike-branch"), child: []string{"local_ts = 10.2.0.0/24", "remote_ts = 10.9.0.0/24"},
	}))
	wire := n.Wire(t)
	g.follow(t, "## Behind NAT")
	eventuallyPings(t, carol, n.Bob.Inner(f))
	g.inSync(t)
	g.Run(t, "iptables", "-P", "FORWARD", "DROP")
	there := carol.ServeTCP(t, netip.AddrPortFrom(carolAddr, 7100))
	flows(t, "behind NAT", way{from: carol, to: serve(t, n.Bob, 7100)}, way{from: n.Bob, to: there})
	if r := g.report(t); len(r.Tunnels) != 1 || r.Tunnels[0].State != "up" || r.Tunnels[0].PacketsBy.Verified < 6 {
		t.Errorf("status shows %+v", r)
	}
	g.healthy(t, "behind NAT")
	if wire.Count(t, lab.IsNATT) == 0 {
		t.Error("no ESP in UDP: the router was not in between")
	}
	// Traffic of no tunnel is masqueraded still, twice.
	g.Run(t, "iptables", "-P", "FORWARD", "ACCEPT")
	carol.MustPing(t, n.Mallory.Outer(f), 2)

	// The peer may have gone: nothing of the tunnel leaves by the MASQUERADE.
	sun.Stop(t)
	g.Run(t, "systemctl", "stop", "strongswan")
	g.inSync(t)
	before := g.report(t)
	carol.MustNotPing(t, n.Bob.Inner(f), 3)
	if now := g.report(t); now.Drops["leak"].Packets < before.Drops["leak"].Packets+3 {
		t.Errorf("drops were %v and are %v", before.Drops, now.Drops)
	}
	if got := wire.Count(t, func(f lab.Frame) bool { return f.Dst == n.Bob.Inner(lab.IPv4) && f.Link == "moon0" }); got != 0 {
		t.Errorf("%d packets left in clear", got)
	}
}
