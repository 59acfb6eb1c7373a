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

// The addresses that keepalived moves, and those of the second gateway.
var (
	sharedWAN = netip.MustParseAddr("192.0.2.20")
	sharedLAN = netip.MustParseAddr("10.2.0.254")
	secondWAN = netip.MustParseAddr("192.0.2.3")
	secondLAN = netip.MustParseAddr("10.2.0.3")
)

// A pair is a site with a second gateway, sol, beside sun, and a tunnel that ends at an address which moves between them.
type pair struct {
	*site
	sol *lab.Host
}

// newPair makes bob the switch of the LAN, as the gateways need one.
func newPair(t *testing.T) pair {
	t.Helper()
	n := lab.NewNetwork(t)
	p := pair{&site{Network: n}, lab.NewHosts(t, "sol")[0]}
	p.sol.Sysctl(t, "net/ipv4/ip_forward=1", "net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0",
		"net/ipv4/conf/all/send_redirects=0", "net/ipv4/conf/default/send_redirects=0")
	n.WAN.IP(t, "link add sol0 type veth peer name wan0 netns "+p.sol.Netns(), "link set sol0 master br0 up")
	n.Bob.IP(t, "link add eth1 type veth peer name lan0 netns "+p.sol.Netns(),
		"addr flush dev eth0", "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
		"link set eth0 master br0", "link set eth1 master br0 up", "link set br0 up",
		fmt.Sprintf("addr add %s/24 dev br0", n.Bob.Inner(lab.IPv4)), fmt.Sprintf("route add default via %s", sharedLAN))
	p.sol.IP(t, "link set wan0 up", "link set lan0 up", fmt.Sprintf("addr add %s/24 dev wan0", secondWAN), fmt.Sprintf("addr add %s/24 dev lan0", secondLAN))
	for _, g := range p.gateways() {
		g.IP(t, fmt.Sprintf("route replace %s via %s", n.Alice.InnerNet(lab.IPv4), n.Moon.Outer(lab.IPv4)),
			fmt.Sprintf("route replace default via %s", n.Moon.Outer(lab.IPv4)))
	}
	n.Moon.IP(t, fmt.Sprintf("route replace %s via %s", n.Bob.InnerNet(lab.IPv4), sharedWAN))
	n.Moon.AddSAs(t, p.states()...)
	n.Moon.AddPolicies(t, p.policies(true)...)
	p.inbox = n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(lab.IPv4), 7000))
	return p
}

func (p pair) gateways() []*lab.Host { return []*lab.Host{p.Sun, p.sol} }

// states are the tunnel's. Moon takes what either gateway sends, so their numbers are not its to check.
func (p pair) states() []lab.SA {
	moon := p.Moon.Outer(lab.IPv4)
	return []lab.SA{
		{Src: moon, Dst: sharedWAN, SPI: 0xb001, Reqid: 11},
		{Src: sharedWAN, Dst: moon, SPI: 0xb002, Reqid: 11, Flags: "replay-window 0"},
	}
}

// policies are the tunnel's, as moon has them or as the gateways have them.
func (p pair) policies(moon bool) []lab.Policy {
	us, peer, local, remote := sharedWAN, p.Moon.Outer(lab.IPv4), p.Bob.InnerNet(lab.IPv4), p.Alice.InnerNet(lab.IPv4)
	if moon {
		us, peer, local, remote = peer, us, remote, local
	}
	list := []lab.Policy{{Dir: "out", Src: local, Dst: remote, Templates: []lab.Template{{Src: us, Dst: peer, Reqid: 11}}}}
	for _, dir := range []string{"in", "fwd"} {
		list = append(list, lab.Policy{Dir: dir, Src: remote, Dst: local, Templates: []lab.Template{{Src: peer, Dst: us, Reqid: 11}}})
	}
	return list
}

// keepalived starts it on a gateway. The scripts run where it takes the addresses and where it gives them up.
func (p pair) keepalived(t *testing.T, g *lab.Host, priority int, scripts string) *lab.Process {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/keepalived.conf", fmt.Sprintf(`global_defs {
	router_id %s
	script_user root
	vrrp_version 3
	vrrp_garp_master_delay 1
}
vrrp_instance pair {
	interface wan0
	virtual_router_id 51
	priority %d
	advert_int 1
	state BACKUP
	virtual_ipaddress {
		%s/24 dev wan0
		%s/24 dev lan0
	}
	%s
}
`, g.Name, priority, sharedWAN, sharedLAN, scripts))
	return g.Start(t, nil, "keepalived", "--dont-fork", "--log-console", "--vrrp", "--use-file="+dir+"/keepalived.conf", "--pid="+dir+"/pid", "--vrrp_pid="+dir+"/vrrp")
}

// has waits until a gateway has the addresses.
func (p pair) has(t *testing.T, g *lab.Host) {
	t.Helper()
	lab.Eventually(t, 6*lab.Patience, func() error {
		for _, a := range []netip.Addr{sharedWAN, sharedLAN} {
			if text := g.Run(t, "ip", "-o", "addr", "show", "to", a.String()); text == "" {
				return fmt.Errorf("%s does not have %s", g.Name, a)
			}
		}
		return nil
	})
}

// holds waits until a gateway has the addresses, and the tunnel carries packets through it.
func (p pair) holds(t *testing.T, g *lab.Host) {
	t.Helper()
	p.has(t, g)
	before := len(p.inbox.Datagrams())
	lab.Eventually(t, 6*lab.Patience, func() error {
		if n := len(p.inbox.Datagrams()); n < before+20 {
			return fmt.Errorf("%d datagrams in the tunnel through %s", n-before, g.Name)
		}
		return nil
	})
}

// move stops keepalived on sun and starts it again, five times each, and waits each time for the other gateway or for sun.
func (p pair) move(t *testing.T, start func() *lab.Process, daemon *lab.Process) {
	t.Helper()
	for range 5 {
		daemon.Stop(t)
		p.holds(t, p.sol)
		daemon = start()
		p.holds(t, p.Sun)
	}
}

// closed closes the gateways. What moon and bob send to the one that gave the addresses up, until they learn of it, is not for
// xfrmfw to accept: ESP to an address of another host is apart.
func (p pair) closed(t *testing.T, gateways ...*lab.Host) {
	t.Helper()
	for _, g := range gateways {
		g.Iptables(t, lab.IPv4, "-A", "FORWARD", "-p", "esp", "-d", sharedWAN.String(), "-j", "DROP")
	}
	closed(t, gateways...)
}

// guardsDropNone fails the test if a guard has dropped a packet. A closed chain may: what comes before the daemon has made the
// rules of a tunnel is accepted by none.
func (p pair) guardsDropNone(t *testing.T) {
	t.Helper()
	for _, g := range p.gateways() {
		if guards := dropped(t, g); len(guards) > 0 {
			t.Errorf("%s: packets were dropped by guards %v", g.Name, guards)
		}
		t.Logf("coexist: %s, %s: %d packets met no rule that accepts them", strings.TrimPrefix(t.Name(), "Test"), g.Name, closedBy(t, g))
	}
}

// TestKeepalived: keepalived moves the address of a tunnel ten times. Both gateways have the tunnel in their kernels, as an
// IKE daemon with a cluster keeps it there; or only the one with the address has it, and the other routes its packets back to
// the LAN.
func TestKeepalived(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	need(t, "/usr/sbin/keepalived")
	inClear := func(t *testing.T, p pair, wire *lab.Capture) {
		t.Helper()
		cleartext := lab.Between(p.Alice.InnerNet(lab.IPv4), p.Bob.InnerNet(lab.IPv4))
		if n := wire.Count(t, cleartext); n > 0 {
			t.Errorf("%d packets were in clear on the WAN", n)
		}
	}
	watch := func(t *testing.T, p pair) *lab.Capture { return p.WAN.Capture(t, "sun0", "sol0") }
	t.Run("both have the tunnel", func(t *testing.T) {
		p := newPair(t)
		p.closed(t, p.gateways()...)
		for _, g := range p.gateways() {
			g.AddSAs(t, p.states()...)
			g.AddPolicies(t, p.policies(false)...)
			followed(t, g)
		}
		start := func() *lab.Process { return p.keepalived(t, p.Sun, 120, "") }
		p.keepalived(t, p.sol, 100, "")
		daemon := start()
		p.has(t, p.Sun)
		wire, use := watch(t, p), p.used(t)
		p.holds(t, p.Sun)
		p.move(t, start, daemon)
		use.stop(t)
		p.guardsDropNone(t)
		for _, g := range p.gateways() {
			if n := closedBy(t, g); n > 0 {
				t.Errorf("%s: %d packets met no rule that accepts them, though the rules were there", g.Name, n)
			}
		}
		inClear(t, p, wire)
	})
	t.Run("the tunnel moves", func(t *testing.T) {
		p := newPair(t)
		scripts := map[*lab.Host]string{}
		dir := t.TempDir()
		for _, g := range p.gateways() {
			// What comes to the gateway without the tunnel goes to the other one by the LAN.
			g.Iptables(t, lab.IPv4, "-A", "FORWARD", "-i", "lan0", "-o", "lan0", "-j", "ACCEPT")
			other := secondLAN
			if g == p.sol {
				other = p.Sun.Inner(lab.IPv4)
			}
			remote := p.Alice.InnerNet(lab.IPv4)
			take := p.script(t, dir+"/"+g.Name+"-take", "ip -batch - <<'END'\n"+lab.Batch(p.states(), p.policies(false))+"END",
				fmt.Sprintf("ip route replace %s via %s", remote, p.Moon.Outer(lab.IPv4)))
			give := p.script(t, dir+"/"+g.Name+"-give", fmt.Sprintf("ip route replace %s via %s", remote, other), "ip xfrm policy flush", "ip xfrm state flush")
			g.Run(t, give)
			p.closed(t, g)
			scripts[g] = fmt.Sprintf("notify_master %s\n\tnotify_backup %s\n\tnotify_stop %s", take, give, give)
			followed(t, g)
		}
		start := func() *lab.Process { return p.keepalived(t, p.Sun, 120, scripts[p.Sun]) }
		p.keepalived(t, p.sol, 100, scripts[p.sol])
		daemon := start()
		p.has(t, p.Sun)
		p.Bob.IP(t, fmt.Sprintf("route replace %s via %s", p.Alice.InnerNet(lab.IPv4), p.Sun.Inner(lab.IPv4))) // whichever has the tunnel
		wire, use := watch(t, p), p.used(t)
		p.holds(t, p.Sun)
		p.move(t, start, daemon)
		use.stop(t)
		p.guardsDropNone(t)
		inClear(t, p, wire)
	})
}

// script writes lines of shell that keepalived calls. It does not wait for one before it calls the next, so they wait for each
// other.
func (p pair) script(t *testing.T, name string, lines ...string) string {
	t.Helper()
	write(t, name, "#!/bin/sh\nexec 9>"+filepath.Dir(name)+"/lock\nflock 9\n"+strings.Join(lines, "\n")+"\n")
	if err := os.Chmod(name, 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}
