package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// untouched is that a gateway has dropped nothing.
func untouched(t *testing.T, gateways ...*lab.Host) {
	t.Helper()
	for _, g := range gateways {
		for name, count := range drops(t, g) {
			if count != 0 {
				t.Errorf("%s: %d packets of legitimate traffic were dropped as %s", g.Name, count, name)
			}
		}
	}
}

// applied runs xfrmfw on both gateways.
func applied(t *testing.T, n *lab.Network) {
	t.Helper()
	for _, g := range n.Gateways() {
		g.MustXfrmfw(t, "apply")
	}
}

// TestErrorsThroughTunnel is that a tunnel's path MTU is discovered both ways, and that
// expiry inside it is told to the far side, between gateways that let in only packets
// that xfrmfw accepts.
func TestErrorsThroughTunnel(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	behind := map[lab.Family]netip.Addr{lab.IPv4: addr("10.2.0.200"), lab.IPv6: addr("fd00:2::200")}
	closed(t, n.Gateways()...)
	for i, f := range lab.Families {
		n.Up(t, lab.IPsec{Inner: f, Reqid: uint32(11 + i)})
		// bob is a router too.
		n.Bob.IP(t, fmt.Sprintf("link add dead%d type veth peer name end%d", i, i),
			fmt.Sprintf("link set end%d up", i),
			fmt.Sprintf("link set dead%d up mtu 1300", i), fmt.Sprintf("route add %s dev dead%d mtu lock 1300 src %s", host(behind[f]), i, n.Bob.Inner(f)))
		n.Sun.IP(t, fmt.Sprintf("route add %s via %s", host(behind[f]), n.Bob.Inner(f)))
	}
	n.Bob.Sysctl(t, "net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1", "net/ipv4/icmp_ratelimit=0", "net/ipv6/icmp/ratelimit=0")
	applied(t, n)
	for _, f := range lab.Families {
		// Larger than the tunnel: the near gateway says so, then fragments pass.
		for _, way := range [][2]*lab.Host{{n.Alice, n.Bob}, {n.Bob, n.Alice}} {
			conn, err := way[0].DialTCP(t, netip.AddrPort{}, way[1].ServeTCP(t, netip.AddrPortFrom(way[1].Inner(f), 7000)), lab.Patience)
			if err != nil {
				t.Fatal(err)
			}
			if err := lab.EchoTCP(conn, string(make([]byte, 50_000)), lab.Patience); err != nil {
				t.Errorf("%v, %s to %s: %v", f, way[0].Name, way[1].Name, err)
			}
		}
		// Larger than a link behind the far gateway: bob's error comes through the tunnel.
		if p := n.Alice.Ping(t, behind[f], 2, "-M", "do", "-s", "1320"); p.Received != 0 || !strings.Contains(strings.ToLower(p.Output), "mtu") {
			t.Errorf("%v: alice did not hear of the path MTU:\n%s", f, p.Output)
		}
	}
	untouched(t, n.Gateways()...)
}

// TestWideRemoteOverLAN is that a remote selector which covers a gateway's own LAN cuts the LAN neither from its gateway
// nor from the tunnel, in any state.
func TestWideRemoteOverLAN(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	var tunnels []lab.IPsec
	for i, f := range lab.Families {
		wide := map[lab.Family]netip.Prefix{lab.IPv4: prefix("10.0.0.0/8"), lab.IPv6: prefix("fd00::/16")}[f]
		c := lab.IPsec{Inner: f, Reqid: uint32(11 + i), MoonNets: []netip.Prefix{wide}, Priority: 1000}
		tunnels = append(tunnels, c)
		n.Up(t, c)
		// As every such site has it, the LAN itself passes by the tunnel.
		lan := n.Sun.InnerNet(f)
		for _, dir := range []string{"in", "fwd", "out"} {
			n.Sun.AddPolicies(t, lab.Policy{Dir: dir, Src: lan, Dst: lan, Priority: 10})
		}
	}
	inboxes := map[lab.Family]*lab.Inbox{}
	for _, f := range lab.Families {
		inboxes[f] = n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7000))
	}
	for _, state := range []string{stateUp, stateTrap, stateFlushed, stateMemory} {
		switch state {
		case stateTrap:
			for _, c := range tunnels {
				n.Sun.DeleteSAs(t, n.SAs(n.Sun, c)...)
			}
		case stateFlushed:
			n.Sun.FlushXFRM(t)
		}
		if state != stateFlushed {
			n.Sun.MustXfrmfw(t, "apply")
		}
		for _, f := range lab.Families {
			if state == stateUp {
				n.Alice.MustPing(t, n.Bob.Inner(f), 1)
			}
			n.Bob.MustPing(t, n.Sun.Inner(f), 2)
			n.Sun.MustPing(t, n.Bob.Inner(f), 2)
		}
		if state != stateMemory { // which comes after the attack
			untouched(t, n.Sun)
		}
		if state != stateFlushed {
			continue
		}
		// And yet it guards. A guard that covers a connected network is not remembered
		// beyond that, unless the administrator says so.
		for _, f := range lab.Families {
			src := netip.AddrPortFrom(n.Alice.Inner(f), 7001)
			n.Mallory.SendRaw(t, lab.UDPPacket(src, inboxes[f].Addr, "spoofed").Times(perAttack)...)
		}
		lab.Eventually(t, lab.Patience, func() error {
			if got := drops(t, n.Sun)["spoof"]; got != 2*perAttack {
				return fmt.Errorf("%d packets were counted as spoof, want %d", got, 2*perAttack)
			}
			return nil
		})
		for _, f := range lab.Families {
			if got := inboxes[f].Count("spoofed"); got != 0 {
				t.Errorf("%v: %d spoofed packets arrived", f, got)
			}
		}
	}
}

// TestHostToHost protects the gateways' own outer addresses, on one segment: cleartext between them is stopped in every
// state, and IKE never.
func TestHostToHost(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	ike, other := map[lab.Family]*lab.Inbox{}, map[lab.Family]*lab.Inbox{}
	for i, f := range lab.Families {
		c := lab.IPsec{Inner: f, Reqid: uint32(11 + i), Transport: true}
		ike[f] = n.Sun.ListenUDP(t, netip.AddrPortFrom(n.Sun.Outer(f), 500))
		other[f] = n.Sun.ListenUDP(t, netip.AddrPortFrom(n.Sun.Outer(f), 7000))
		n.Up(t, c)
		// A peer that is a gateway to other networks would not be remembered.
		n.Sun.IP(t, fmt.Sprintf("route del %s via %s", n.Moon.InnerNet(f), n.Moon.Outer(f)))
		n.Moon.IP(t, fmt.Sprintf("route del %s via %s", n.Sun.InnerNet(f), n.Sun.Outer(f)))
	}
	applied(t, n)
	for _, f := range lab.Families {
		n.Moon.MustPing(t, n.Sun.Outer(f), 2)
	}
	untouched(t, n.Gateways()...)
	for _, g := range n.Gateways() { // an IKE daemon has a bypass for itself; without policies it needs none
		g.FlushXFRM(t)
	}
	for _, again := range []bool{false, true} {
		if again {
			applied(t, n)
		}
		for _, f := range lab.Families {
			payload := fmt.Sprint("again=", again)
			lab.Eventually(t, lab.Patience, func() error {
				n.Moon.SendUDP(t, netip.AddrPortFrom(n.Moon.Outer(f), 500), ike[f].Addr, payload, 1)
				if ike[f].Count(payload) == 0 {
					return fmt.Errorf("%v: IKE does not arrive", f)
				}
				return nil
			})
			// From moon's address and past moon's own guard.
			src := netip.AddrPortFrom(n.Moon.Outer(f), 7001)
			n.Mallory.SendRaw(t, lab.UDPPacket(src, other[f].Addr, payload).Times(perAttack)...)
		}
	}
	lab.Eventually(t, lab.Patience, func() error {
		if got := drops(t, n.Sun)["spoof"]; got != 4*perAttack {
			return fmt.Errorf("%d packets were counted as spoof, want %d", got, 4*perAttack)
		}
		return nil
	})
	for _, f := range lab.Families {
		if got := len(other[f].Datagrams()); got != 0 {
			t.Errorf("%v: %d packets in clear arrived", f, got)
		}
		n.Moon.MustNotPing(t, n.Sun.Outer(f), 1)
	}
}
