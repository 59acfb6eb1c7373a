package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// branch is a tunnel between sun and another gateway, of one network behind that.
type branch struct {
	gateway *lab.Host
	reqid   uint32
	net     netip.Prefix
	mark    lab.Mark // of sun's policies
	ifID    uint32   // of sun's states and policies
}

// up installs the tunnel on both gateways.
func (b branch) up(t *testing.T, sun *lab.Host) {
	t.Helper()
	const f = lab.IPv4
	all, wan, peer := everything(f), sun.Outer(f), b.gateway.Outer(f)
	toSun, toPeer := []lab.Template{{Src: peer, Dst: wan, Reqid: b.reqid}}, []lab.Template{{Src: wan, Dst: peer, Reqid: b.reqid}}
	for _, h := range []*lab.Host{sun, b.gateway} {
		sas := []lab.SA{{Src: peer, Dst: wan, SPI: 0x1000 * b.reqid, Reqid: b.reqid}, {Src: wan, Dst: peer, SPI: 0x1000*b.reqid + 1, Reqid: b.reqid}}
		if h == sun {
			sas[0].IfID, sas[1].IfID = b.ifID, b.ifID
		}
		h.AddSAs(t, sas...)
	}
	b.gateway.AddPolicies(t, lab.Policy{Dir: "out", Src: b.net, Dst: all, Templates: toSun},
		lab.Policy{Dir: "in", Src: all, Dst: b.net, Templates: toPeer}, lab.Policy{Dir: "fwd", Src: all, Dst: b.net, Templates: toPeer})
	sun.AddPolicies(t, lab.Policy{Dir: "out", Src: all, Dst: b.net, Mark: b.mark, IfID: b.ifID, Templates: toPeer},
		lab.Policy{Dir: "in", Src: b.net, Dst: all, Mark: b.mark, IfID: b.ifID, Templates: toSun},
		lab.Policy{Dir: "fwd", Src: b.net, Dst: all, Mark: b.mark, IfID: b.ifID, Templates: toSun})
}

// cameOut checks how many packets came out of two tunnels, each told by its remote network.
func cameOut(t *testing.T, h *lab.Host, want map[string]int) {
	t.Helper()
	got := make(map[string]int)
	for _, tunnel := range status(t, h).Tunnels {
		by := tunnel.PacketsBy
		got[tunnel.Selectors[0].Remote] = by.Verified + by.PolicyOnly + by.Unconfirmed + by.Overlay
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packets out of each tunnel:\n%s", diff)
	}
}

// TestSharedDevice has two tunnels on one VTI, and on one xfrm interface: each has its
// own limits, into it and out of it, and its own count of packets, and neither lets a packet
// in beyond its cap.
func TestSharedDevice(t *testing.T) {
	for _, carrier := range []lab.Carrier{lab.VTI, lab.XFRMInterface} {
		t.Run(string(carrier), func(t *testing.T) {
			const f = lab.IPv4
			in, device, mark, ifID := lab.Oldest, "vti0", lab.Mark{Value: 42, Mask: 0xffffffff}, uint32(0)
			add := "link add vti0 type vti local %s key 42"
			if carrier == lab.XFRMInterface {
				in, device, mark, ifID = lab.Newest, "ipsec0", lab.Mark{}, 7
				add = "link add ipsec0 type xfrm dev wan0 if_id 7"
			} else {
				add = fmt.Sprintf(add, "192.0.2.2")
			}
			lab.RunIn(t, in)
			n := lab.NewNetwork(t)
			shop := addr("10.3.0.1")
			n.Mallory.IP(t, fmt.Sprintf("addr add %s dev lo", shop))
			n.Alice.IP(t, "addr add 10.1.0.200/24 dev eth0")
			n.Sun.IP(t, add, "link set "+device+" up", "route replace 10.1.0.0/24 dev "+device, "route add 10.3.0.0/24 dev "+device)
			n.Sun.Sysctl(t, "net/ipv4/conf/"+device+"/disable_policy=1", "net/ipv4/conf/"+device+"/rp_filter=0")
			branch{n.Moon, 31, n.Moon.InnerNet(f), mark, ifID}.up(t, n.Sun)
			branch{n.Mallory, 32, prefix("10.3.0.0/24"), mark, ifID}.up(t, n.Sun)
			bob := n.Bob.Inner(f)
			n.Alice.MustPing(t, bob, 2)
			n.Alice.MustPing(t, bob, 2, "-I", "10.1.0.200")
			n.Mallory.MustPing(t, bob, 2, "-I", shop.String())
			closed(t, n.Sun)
			n.Alice.MustNotPing(t, bob, 2)
			limited := func(reqid int) string {
				return fmt.Sprintf("  - match: {reqid: %d}\n    in: [tcp/443]\n    out: [tcp/443]\n", reqid)
			}
			configure(t, n.Sun, "tunnels:\n  - match: {reqid: 31}\n    remote: [10.1.0.0/25]\n"+limited(32))
			n.Sun.MustXfrmfw(t, "apply")
			n.Alice.MustPing(t, bob, 2)
			n.Bob.MustPing(t, n.Alice.Inner(f), 2)
			n.Alice.MustNotPing(t, bob, 2, "-I", "10.1.0.200")
			n.Mallory.MustNotPing(t, bob, 2, "-I", shop.String())
			n.Bob.MustNotPing(t, shop, 2)
			// Two requests and two replies came out of the first, and two requests that in: dropped
			// out of the second. None beyond the cap is the first one's on a VTI; on an xfrm
			// interface they are crossed.
			cameOut(t, n.Sun, map[string]int{"10.1.0.0/24": 4, "10.3.0.0/24": 2})
			configure(t, n.Sun, "tunnels:\n"+limited(31))
			n.Sun.MustXfrmfw(t, "apply")
			n.Mallory.MustPing(t, bob, 2, "-I", shop.String())
			n.Bob.MustPing(t, shop, 2)
			n.Alice.MustNotPing(t, bob, 2)
			n.Bob.MustNotPing(t, n.Alice.Inner(f), 2)
			cameOut(t, n.Sun, map[string]int{"10.1.0.0/24": 2, "10.3.0.0/24": 6})
		})
	}
}

// TestOverlayDevices has devices with packets that are told in other ways than by one
// peer and one connection: GRE that takes any peer, VXLAN with a connection for each
// direction, and a VLAN above GRE.
func TestOverlayDevices(t *testing.T) {
	lab.RunIn(t, lab.Newest)
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	moon, wan := n.Moon.Outer(f), n.Sun.Outer(f)
	for q, upper := range map[uint32][2]string{51: {"proto gre", "proto gre"}, 52: {"proto udp dport 4789", "proto udp sport 4789"}, 53: {"proto udp sport 4789", "proto udp dport 4789"}} {
		for _, g := range n.Gateways() {
			us, peer := g.Outer(f), n.Peer(g).Outer(f)
			g.AddSAs(t, lab.SA{Src: moon, Dst: wan, SPI: 0x1000 * q, Reqid: q, Mode: lab.Transport}, lab.SA{Src: wan, Dst: moon, SPI: 0x1000*q + 1, Reqid: q, Mode: lab.Transport})
			to := []lab.Template{{Reqid: q, Mode: lab.Transport}}
			in, out := upper[0], upper[1]
			if g == n.Moon {
				in, out = out, in
			}
			g.AddPolicies(t, lab.Policy{Dir: "in", Src: host(peer), Dst: host(us), Upper: in, Templates: to}, lab.Policy{Dir: "out", Src: host(us), Dst: host(peer), Upper: out, Templates: to})
		}
	}
	for i, g := range n.Gateways() {
		us, peer := i+1, 2-i
		remote := fmt.Sprintf("remote %s", n.Peer(g).Outer(f))
		if g == n.Sun {
			remote = ""
		}
		g.IP(t, fmt.Sprintf("link add gre1 type gre local %s %s key 1", g.Outer(f), remote), fmt.Sprintf("addr add 172.20.0.%d/24 dev gre1", us), "link set gre1 up",
			fmt.Sprintf("link add vx0 type vxlan id 7 remote %s dstport 4789", n.Peer(g).Outer(f)), fmt.Sprintf("addr add 172.21.0.%d/24 dev vx0", us), "link set vx0 up",
			fmt.Sprintf("link add tap1 type gretap local %s remote %s key 2", g.Outer(f), n.Peer(g).Outer(f)), "link set tap1 up",
			"link add link tap1 name tap1.5 type vlan id 5", fmt.Sprintf("addr add 172.22.0.%d/24 dev tap1.5", us), "link set tap1.5 up")
		if g == n.Sun {
			g.IP(t, fmt.Sprintf("neigh add 172.20.0.%d lladdr %s dev gre1", peer, n.Peer(g).Outer(f)))
		}
	}
	at := []netip.Addr{addr("172.20.0.2"), addr("172.21.0.2"), addr("172.22.0.2")}
	for _, a := range at {
		n.Moon.MustPing(t, a, 2)
	}
	closed(t, n.Sun)
	for _, a := range at {
		n.Moon.MustNotPing(t, a, 1)
	}
	n.Sun.MustXfrmfw(t, "apply")
	for _, a := range at {
		n.Moon.MustPing(t, a, 2)
	}
	untouched(t, n.Sun)
	// Packets of a network routed into the device come in clear from no one, and go out
	// in clear to no one.
	inbox := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7000))
	n.Sun.Rules(t, f, "filter", ":INPUT ACCEPT [0:0]", ":FORWARD ACCEPT [0:0]")
	before := drops(t, n.Sun)
	forged(t, n, addr("172.22.0.1"), inbox, "in clear")
	dropped(t, n.Sun, before, "spoof", perAttack)
	if got := inbox.Count("in clear"); got != 0 {
		t.Errorf("%d forged packets arrived", got)
	}
}
