package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestUnroutedPartOfSelector: the local selector is wider than the LAN. A stranger takes an address of it that no route but
// the default one leads to. A closed gateway stops him without xfrmfw, and still does with it; the LAN is let through.
func TestUnroutedPartOfSelector(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	n.Up(t, lab.IPsec{SunNets: []netip.Prefix{prefix("10.2.0.0/16")}})
	n.Sun.IP(t, fmt.Sprintf("route add default via %s", n.Mallory.Outer(f)))
	n.Mallory.IP(t, fmt.Sprintf("route replace %s via %s", n.Alice.InnerNet(f), n.Sun.Outer(f)))
	alice := n.Alice.ListenUDP(t, netip.AddrPortFrom(n.Alice.Inner(f), 7000))
	forge := func(port uint16, payload string) {
		p := lab.UDPPacket(netip.AddrPortFrom(addr("10.2.77.1"), port), alice.Addr, payload)
		n.Mallory.SendRaw(t, p.Times(perAttack)...)
	}
	forge(7001, "open")
	arrive(t, alice, "open")
	closed(t, n.Sun)
	n.Bob.MustNotPing(t, n.Alice.Inner(f), 1)
	n.Sun.MustXfrmfw(t, "apply")
	n.Bob.MustPing(t, n.Alice.Inner(f), 2)
	before := drops(t, n.Sun)
	forge(7002, "closed")
	dropped(t, n.Sun, before, "inject", perAttack)
	if got := alice.Count("closed"); got != 0 {
		t.Errorf("%d of a stranger's packets were encrypted", got)
	}
}

// TestDevicesOfTwoPeers: two peers have a VTI each, of which one has another key each way. Neither sends from what is
// routed into the other's device, and the host keeps its traffic beside them.
func TestDevicesOfTwoPeers(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	wan, all, shop, web := n.Sun.Outer(f), everything(f), addr("10.3.0.1"), addr("198.51.100.66")
	n.Mallory.IP(t, fmt.Sprintf("addr add %s dev lo", shop), fmt.Sprintf("addr add %s dev lo", web), fmt.Sprintf("addr add %s dev lo", n.Alice.Inner(f)))
	n.Sun.IP(t, fmt.Sprintf("route add 198.51.100.0/24 via %s", n.Mallory.Outer(f)))
	for i, b := range []branch{{gateway: n.Moon, reqid: 31, net: n.Moon.InnerNet(f)}, {gateway: n.Mallory, reqid: 32, net: prefix("10.3.0.0/24")}} {
		peer, ikey, okey := b.gateway.Outer(f), uint32(7+10*i), uint32(8+10*i)
		toSun, toPeer := []lab.Template{{Src: peer, Dst: wan, Reqid: b.reqid}}, []lab.Template{{Src: wan, Dst: peer, Reqid: b.reqid}}
		for _, h := range []*lab.Host{n.Sun, b.gateway} {
			h.AddSAs(t, lab.SA{Src: peer, Dst: wan, SPI: 0x1000 * b.reqid, Reqid: b.reqid}, lab.SA{Src: wan, Dst: peer, SPI: 0x1000*b.reqid + 1, Reqid: b.reqid})
		}
		b.gateway.AddPolicies(t, lab.Policy{Dir: "out", Src: prefix("10.0.0.0/8"), Dst: n.Sun.InnerNet(f), Templates: toSun},
			lab.Policy{Dir: "in", Src: n.Sun.InnerNet(f), Dst: b.net, Templates: toPeer}, lab.Policy{Dir: "fwd", Src: n.Sun.InnerNet(f), Dst: b.net, Templates: toPeer})
		in, out := lab.Mark{Value: ikey, Mask: 0xffffffff}, lab.Mark{Value: okey, Mask: 0xffffffff}
		n.Sun.AddPolicies(t, lab.Policy{Dir: "out", Src: all, Dst: all, Mark: out, Templates: toPeer},
			lab.Policy{Dir: "in", Src: all, Dst: all, Mark: in, Templates: toSun}, lab.Policy{Dir: "fwd", Src: all, Dst: all, Mark: in, Templates: toSun})
		name := fmt.Sprintf("vti%d", 5+i)
		n.Sun.IP(t, fmt.Sprintf("link add %s type vti local %s remote %s ikey %d okey %d", name, wan, peer, ikey, okey), "link set "+name+" up", fmt.Sprintf("route replace %s dev %s", b.net, name))
		n.Sun.Sysctl(t, "net/ipv4/conf/"+name+"/disable_policy=1", "net/ipv4/conf/"+name+"/rp_filter=0")
	}
	bob := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7000))
	crossing := func(payload string, port uint16) {
		for range perAttack {
			if err := n.Mallory.SendOwn(lab.UDPPacket(netip.AddrPortFrom(n.Alice.Inner(f), port), bob.Addr, payload)); err != nil {
				t.Fatal(err)
			}
		}
	}
	passes := func() {
		t.Helper()
		n.Alice.MustPing(t, bob.Addr.Addr(), 2)
		n.Mallory.MustPing(t, bob.Addr.Addr(), 2, "-I", shop.String())
		n.Bob.MustPing(t, n.Alice.Inner(f), 2)
		n.Bob.MustPing(t, web, 2)
		n.Mallory.MustPing(t, wan, 2, "-I", web.String())
	}
	passes()
	crossing("control", 7001)
	arrive(t, bob, "control")
	n.Sun.MustXfrmfw(t, "apply")
	passes()
	untouched(t, n.Sun)
	before := drops(t, n.Sun)
	crossing("crossing", 7002)
	dropped(t, n.Sun, before, "spoof", perAttack)
	if got := bob.Count("crossing"); got != 0 {
		t.Errorf("%d with the other peer's address arrived", got)
	}
}

// TestPortOfVRF: wan: names a port of a VRF. Lockdown holds for what comes in by it, and IKE and the tunnel are let in.
func TestPortOfVRF(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	n.Sun.IP(t, "link add red type vrf table 10", "link set red up", "link set lan0 master red", "link set wan0 master red",
		fmt.Sprintf("route add default via %s vrf red", n.Moon.Outer(f)))
	n.Sun.Sysctl(t, "net/ipv4/conf/red/rp_filter=0")
	n.Up(t, lab.IPsec{})
	bob, wan := n.Bob.Inner(f), n.Sun.Outer(f)
	n.Alice.MustPing(t, bob, 2)
	n.Mallory.MustPing(t, bob, 2)
	configure(t, n.Sun, "wan: [wan0]\nlockdown: {services: [tcp/22]}\n")
	n.Sun.MustXfrmfw(t, "apply")
	n.Alice.MustPing(t, bob, 2)
	n.Mallory.MustNotPing(t, bob, 2)
	n.Mallory.MustNotPing(t, wan, 2)
	closed(t, n.Sun)
	n.Alice.MustPing(t, bob, 2)
	configure(t, n.Sun, "wan: [wan0]\n")
	n.Sun.MustXfrmfw(t, "apply")
	n.Alice.MustPing(t, bob, 2)
	n.Mallory.MustNotPing(t, bob, 2)
}
