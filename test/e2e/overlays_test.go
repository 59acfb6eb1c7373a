package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// inGRE is a packet in GRE without key or checksum.
func inGRE(src, dst netip.Addr, inner lab.Packet) lab.Packet {
	return lab.IPPacket(src, dst, 47, append([]byte{0, 0, 0x08, 0x00}, inner...))
}

// TestOverlayOverOverlay is VXLAN over GRE over ESP, in a VRF, and VXLAN over an xfrm
// interface, between gateways that let in only packets that xfrmfw accepts. A peer with a
// tunnel and a GRE device of his own sends with the other's addresses.
func TestOverlayOverOverlay(t *testing.T) {
	lab.RunIn(t, lab.Newest)
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	closed(t, n.Gateways()...)
	n.Up(t, lab.IPsec{Carrier: lab.GRE})
	n.Up(t, lab.IPsec{Carrier: lab.XFRMInterface, Reqid: 15})
	for i, g := range n.Gateways() {
		us, peer := i+1, 2-i
		g.IP(t, fmt.Sprintf("addr add 172.30.0.%d/24 dev gre1", us),
			fmt.Sprintf("link add vx0 type vxlan id 7 local 172.30.0.%d remote 172.30.0.%d dstport 4789", us, peer),
			"link set vx0 up", fmt.Sprintf("addr add 172.31.0.%d/24 dev vx0", us),
			fmt.Sprintf("addr add 172.29.0.%d/24 dev ipsec0", us),
			fmt.Sprintf("link add vx1 type vxlan id 8 local 172.29.0.%d remote 172.29.0.%d dstport 4790", us, peer),
			"link set vx1 up", fmt.Sprintf("addr add 172.28.0.%d/24 dev vx1", us))
	}
	n.Sun.IP(t, "link add red type vrf table 10", "link set red up", "link set vx0 master red")
	// mallory is a peer too: with a tunnel for his own address, and with a GRE device.
	wan, moon, mallory := n.Sun.Outer(f), n.Moon.Outer(f), n.Mallory.Outer(f)
	tunnel := []lab.Template{{Src: mallory, Dst: wan, Reqid: 20}}
	transport := []lab.Template{{Src: mallory, Dst: wan, Reqid: 22, Mode: lab.Transport}}
	for _, h := range []*lab.Host{n.Sun, n.Mallory} {
		h.AddSAs(t, lab.SA{Src: mallory, Dst: wan, SPI: 0x2001, Reqid: 20}, lab.SA{Src: mallory, Dst: wan, SPI: 0x2201, Reqid: 22, Mode: lab.Transport})
	}
	n.Sun.AddPolicies(t, lab.Policy{Dir: "in", Src: host(mallory), Dst: host(wan), Priority: 2000, Templates: tunnel},
		lab.Policy{Dir: "in", Src: host(mallory), Dst: host(wan), Upper: "proto gre", Priority: 1000, Templates: transport})
	n.Sun.IP(t, fmt.Sprintf("link add gre2 type gre local %s remote %s", wan, mallory), "link set gre2 up")

	inbox := n.Sun.ListenUDP(t, netip.MustParseAddrPort("172.30.0.2:7000"))
	within := func(payload string) lab.Packet {
		return lab.UDPPacket(netip.MustParseAddrPort("172.30.0.1:7001"), inbox.Addr, payload)
	}
	n.Moon.MustNotPing(t, addr("172.31.0.2"), 1)
	applied(t, n)
	n.Moon.MustPing(t, addr("172.30.0.2"), 2)
	n.Moon.MustPing(t, addr("172.31.0.2"), 3)
	n.Moon.MustPing(t, addr("172.31.0.2"), 2, "-s", "2000")
	n.Moon.MustPing(t, addr("172.28.0.2"), 2)
	lab.Eventually(t, lab.Patience, func() error {
		n.Moon.SendUDP(t, netip.MustParseAddrPort("172.30.0.1:0"), inbox.Addr, "as himself", 1)
		if inbox.Count("as himself") == 0 {
			return fmt.Errorf("moon's datagrams do not arrive at %v", inbox.Addr)
		}
		return nil
	})
	untouched(t, n.Gateways()...)

	strike := func(name, drop string, packet func(payload string) lab.Packet, policies ...lab.Policy) {
		t.Helper()
		before := drops(t, n.Sun)
		n.Mallory.AddPolicies(t, policies...)
		n.Mallory.SendRaw(t, packet(name).Times(perAttack)...)
		dropped(t, n.Sun, before, drop, perAttack)
		if got := inbox.Count(name); got != 0 {
			t.Errorf("%s: %d arrived", name, got)
		}
		n.Mallory.DeletePolicies(t, policies...)
	}
	out := lab.Policy{Dir: "out", Src: everything(f), Dst: host(wan)}
	withTunnel, withTransport := out, out
	withTunnel.Templates, withTransport.Templates = tunnel, transport
	strike("in clear", "spoof", func(p string) lab.Packet { return inGRE(moon, wan, within(p)) })
	strike("through his tunnel", "crossed", func(p string) lab.Packet { return inGRE(moon, wan, within(p)) }, withTunnel)
	strike("through his device", "crossed", func(p string) lab.Packet { return inGRE(mallory, wan, inGRE(moon, wan, within(p))) }, withTransport)
	strike("VXLAN through his device", "crossed", func(p string) lab.Packet {
		return inGRE(mallory, wan, lab.UDPPacket(netip.MustParseAddrPort("172.30.0.1:7001"), netip.MustParseAddrPort("172.30.0.2:4789"), p))
	}, withTransport)

	// The tunnel is gone, and the devices are there: their packets leave in clear in no state.
	wire := n.Wire(t)
	for _, again := range []bool{false, true} {
		if again {
			applied(t, n)
		} else {
			n.Sun.FlushXFRM(t)
		}
		_ = n.Sun.Do(func() error {
			return sendOne(netip.AddrPort{}, netip.MustParseAddrPort("172.30.0.1:7000"), "device")
		})
		strike(fmt.Sprint("while down, applied=", again), "spoof", func(p string) lab.Packet { return inGRE(moon, wan, within(p)) })
	}
	if got := wire.Count(t, func(frame lab.Frame) bool { return frame.Link == "sun0" && frame.Proto == 47 }); got != 0 {
		t.Errorf("%d packets of GRE left in clear", got)
	}
}

// TestErrorsOfOutsideRouters is case 1b: an error of a router behind the peer that is in no selector comes out of the
// tunnel, and is let through for the flow that it is about. The kernel lets it pass from 6.8 on, where states and policies
// have the flag.
func TestErrorsOfOutsideRouters(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	closed(t, n.Gateways()...)
	c := lab.IPsec{Flags: "flag icmp"}
	n.Up(t, c)
	router := addr("172.16.9.9")
	n.Moon.IP(t, fmt.Sprintf("route add %s via %s", router, n.Alice.Inner(f)))
	toSun := []lab.Template{{Src: n.Moon.Outer(f), Dst: n.Sun.Outer(f), Reqid: 11}}
	n.Moon.AddPolicies(t, lab.Policy{Dir: "out", Src: host(router), Dst: n.Sun.InnerNet(f), Templates: toSun})
	n.Sun.IP(t, fmt.Sprintf("xfrm policy update src %s dst %s dir fwd flag icmp tmpl src %s dst %s proto esp reqid 11 mode tunnel",
		n.Moon.InnerNet(f), n.Sun.InnerNet(f), n.Moon.Outer(f), n.Sun.Outer(f)))
	applied(t, n)
	alice := n.Alice.ListenUDP(t, netip.AddrPortFrom(n.Alice.Inner(f), 7000))
	bob := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7001))
	heard := n.Bob.Capture(t, "eth0")
	lab.Eventually(t, lab.Patience, func() error {
		_ = bob.Send(alice.Addr, "flow")
		if alice.Count("flow") == 0 {
			return fmt.Errorf("bob's datagrams do not reach alice")
		}
		return nil
	})
	errorAbout := func(to netip.AddrPort) lab.Packet {
		return lab.TooBigPacket(router, lab.UDPPacket(bob.Addr, to, "flow"))
	}
	n.Alice.SendRaw(t, errorAbout(alice.Addr).Times(perAttack)...)
	if lab.Engine() == "iptables" { // a table counts them with all others out of the tunnel
		lab.Eventually(t, lab.Patience, func() error {
			if got := n.Sun.Counter(t, f, "mangle", "/related/"); got < perAttack {
				return fmt.Errorf("%d errors were taken for related, want %d", got, perAttack)
			}
			return nil
		})
	}
	untouched(t, n.Sun)
	fromRouter := func(frame lab.Frame) bool { return !frame.Outgoing && frame.Src == router }
	if lab.Kernel() != "6.1" {
		lab.Eventually(t, lab.Patience, func() error {
			if got := heard.Count(t, fromRouter); got < perAttack {
				return fmt.Errorf("bob heard %d errors, want %d", got, perAttack)
			}
			return nil
		})
	}
	// About no flow of the tunnel's: dropped.
	before, had := drops(t, n.Sun), heard.Count(t, fromRouter)
	n.Alice.SendRaw(t, errorAbout(netip.AddrPortFrom(n.Alice.Inner(f), 9)).Times(perAttack)...)
	dropped(t, n.Sun, before, "crossed", perAttack)
	if got := heard.Count(t, fromRouter); got != had {
		t.Errorf("bob heard %d errors about no flow of his", got-had)
	}
}
