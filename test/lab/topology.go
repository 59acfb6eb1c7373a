package lab

import (
	"fmt"
	"net/netip"
	"testing"
)

// A Family is an IP version.
type Family int

// The IP versions.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Families are both IP versions, to range over.
var Families = []Family{IPv4, IPv6}

func (f Family) String() string { return fmt.Sprintf("IPv%d", int(f)) }

// any is the prefix of all addresses.
func (f Family) any() netip.Prefix {
	if f == IPv4 {
		return netip.MustParsePrefix("0.0.0.0/0")
	}
	return netip.MustParsePrefix("::/0")
}

// FamilyOf is the IP version of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Inner is the address of a host in its protected network: 10.1.0.10 of alice, 10.1.0.1 of moon.
func (h *Host) Inner(f Family) netip.Addr { return h.inner[f].Addr() }

// InnerNet is the protected network that the host is in.
func (h *Host) InnerNet(f Family) netip.Prefix { return h.inner[f].Masked() }

// Outer is the address of a gateway or of mallory on the WAN.
func (h *Host) Outer(f Family) netip.Addr { return h.outer[f].Addr() }

// A Network is two protected networks behind two gateways, and an attacker between these:
//
//	alice ─── moon ═══ WAN ═══ sun ─── bob
//	                    │
//	                 mallory
//
//	alice    10.1.0.10   fd00:1::10
//	moon     10.1.0.1    fd00:1::1     192.0.2.1   2001:db8:ffff::1
//	sun      10.2.0.1    fd00:2::1     192.0.2.2   2001:db8:ffff::2
//	bob      10.2.0.10   fd00:2::10
//	mallory                            192.0.2.66  2001:db8:ffff::66
//
// Interfaces are eth0 on alice and bob, lan0 and wan0 on the gateways, wan0 on mallory. The WAN is a bridge (br0) in a
// namespace of its own, with the ports moon0, sun0 and mallory0. The gateways forward, and neither reverse-path filter
// nor firewall protects them. They and mallory have routes to the protected networks through the gateways, so that
// cleartext goes all the way.
type Network struct {
	Alice, Moon, WAN, Sun, Bob, Mallory *Host
}

// NewNetwork makes a network that ends with the test.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	h := NewHosts(t, "alice", "moon", "wan", "sun", "bob", "mallory")
	n := &Network{Alice: h[0], Moon: h[1], WAN: h[2], Sun: h[3], Bob: h[4], Mallory: h[5]}
	n.Alice.inner = addrs("10.1.0.10/24", "fd00:1::10/64")
	n.Moon.inner = addrs("10.1.0.1/24", "fd00:1::1/64")
	n.Sun.inner = addrs("10.2.0.1/24", "fd00:2::1/64")
	n.Bob.inner = addrs("10.2.0.10/24", "fd00:2::10/64")
	n.Moon.outer = addrs("192.0.2.1/24", "2001:db8:ffff::1/64")
	n.Sun.outer = addrs("192.0.2.2/24", "2001:db8:ffff::2/64")
	n.Mallory.outer = addrs("192.0.2.66/24", "2001:db8:ffff::66/64")

	for _, host := range h {
		host.Sysctl(t, quiet...)
	}
	for _, gateway := range n.Gateways() {
		gateway.Sysctl(t, "net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1")
	}
	veth := func(a *Host, aName string, b *Host, bName string) string {
		return fmt.Sprintf("link add %s netns %s type veth peer name %s netns %s\n", aName, a.netns, bName, b.netns)
	}
	err := ipBatch(veth(n.Alice, "eth0", n.Moon, "lan0") + veth(n.Bob, "eth0", n.Sun, "lan0") +
		veth(n.Moon, "wan0", n.WAN, "moon0") + veth(n.Sun, "wan0", n.WAN, "sun0") +
		veth(n.Mallory, "wan0", n.WAN, "mallory0"))
	if err != nil {
		t.Fatal(err)
	}
	n.WAN.IP(t,
		"link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
		"link set moon0 master br0 up", "link set sun0 master br0 up", "link set mallory0 master br0 up",
		"link set br0 up")
	n.Alice.IP(t, join(n.Alice.linkUp("eth0", n.Alice.inner), defaultRoutes(n.Moon))...)
	n.Bob.IP(t, join(n.Bob.linkUp("eth0", n.Bob.inner), defaultRoutes(n.Sun))...)
	n.Moon.IP(t, join(n.Moon.linkUp("lan0", n.Moon.inner), n.Moon.linkUp("wan0", n.Moon.outer), routesTo(n.Sun))...)
	n.Sun.IP(t, join(n.Sun.linkUp("lan0", n.Sun.inner), n.Sun.linkUp("wan0", n.Sun.outer), routesTo(n.Moon))...)
	n.Mallory.IP(t, join(n.Mallory.linkUp("wan0", n.Mallory.outer), routesTo(n.Moon), routesTo(n.Sun))...)
	n.crowd(t)
	return n
}

// Gateways are moon and sun.
func (n *Network) Gateways() []*Host { return []*Host{n.Moon, n.Sun} }

// Peer is the other gateway.
func (n *Network) Peer(gateway *Host) *Host {
	if gateway == n.Moon {
		return n.Sun
	}
	return n.Moon
}

// quiet are kernel variables for all hosts: no filter on reverse paths, none of the traffic that a kernel makes by
// itself, and addresses that can be used at once.
var quiet = []string{
	"net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0",
	"net/ipv4/conf/all/send_redirects=0", "net/ipv4/conf/default/send_redirects=0",
	"net/ipv4/conf/all/accept_redirects=0", "net/ipv4/conf/default/accept_redirects=0",
	"net/ipv6/conf/all/accept_dad=0", "net/ipv6/conf/default/accept_dad=0",
	"net/ipv6/conf/all/accept_ra=0", "net/ipv6/conf/default/accept_ra=0",
	"net/ipv6/conf/all/router_solicitations=0", "net/ipv6/conf/default/router_solicitations=0",
}

// linkUp are the ip commands that bring an interface up with its addresses.
func (h *Host) linkUp(link string, addresses map[Family]netip.Prefix) []string {
	lines := []string{fmt.Sprintf("link set %s up", link)}
	for _, f := range Families {
		option := ""
		if f == IPv6 {
			option = " nodad"
		}
		lines = append(lines, fmt.Sprintf("addr add %s dev %s%s", addresses[f], link, option))
	}
	return lines
}

// defaultRoutes are the ip commands for routes through the inner addresses of a gateway.
func defaultRoutes(gateway *Host) (lines []string) {
	for _, f := range Families {
		lines = append(lines, fmt.Sprintf("route add default via %s", gateway.Inner(f)))
	}
	return lines
}

// routesTo are the ip commands for routes from the WAN to the protected network of a gateway.
func routesTo(gateway *Host) (lines []string) {
	for _, f := range Families {
		lines = append(lines, fmt.Sprintf("route add %s via %s", gateway.InnerNet(f), gateway.Outer(f)))
	}
	return lines
}

func addrs(v4, v6 string) map[Family]netip.Prefix {
	return map[Family]netip.Prefix{IPv4: netip.MustParsePrefix(v4), IPv6: netip.MustParsePrefix(v6)}
}

func join(parts ...[]string) (all []string) {
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}
