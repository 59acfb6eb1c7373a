package fake

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// vrfFaults are packets in clear beside devices in VRFs: a packet of this host leaves by
// the VRF before it leaves by the device, and a guard of a device holds in its VRF.
func vrfFaults() []Fault {
	overlay := newFaultHost()
	overlay.port("gre1", "gre", "red", 10, moonLAN)
	overlay.connect(connection{reqid: 1, peer: moonWAN, local: "192.0.2.2/32", remote: moonWAN + "/32", mode: xfrm.TransportMode, proto: xfrm.GRE})
	all := []Fault{
		overlay.fault("into an overlay in a VRF, the pass by the VRF", fromHost("red", "10.2.0.1", "10.1.0.10"), firewall.Leave, firewall.Case9),
		overlay.fault("into an overlay in a VRF, the pass by the device", fromHost("gre1", "10.2.0.1", "10.1.0.10"), firewall.Admit, firewall.NoCase),
		overlay.fault("past an overlay in a VRF, in clear", fromHost("eth0", "10.2.0.1", "10.1.0.10"), firewall.Refuse, firewall.Case8),
		overlay.fault("past an overlay in a VRF, forwarded in clear", through("eth1", "eth0", "10.2.0.10", "10.1.0.10"), firewall.Refuse, firewall.Case8),
		overlay.fault("in clear, from what is routed into an overlay in a VRF", through("eth0", "red", "10.1.0.10", "10.2.0.10"), firewall.Discard, firewall.Case6),
	}
	in, out := through("blue", "eth3", "10.1.0.10", "10.2.0.10"), through("eth3", "eth3", "10.2.0.10", "10.1.0.10")
	for _, kind := range []string{"xfrm", "vti", "gre"} {
		two := newFaultHost()
		two.port("tun1", kind, "red", 10, moonLAN, "0.0.0.0/0")
		c := connection{reqid: 1, peer: moonWAN, local: "0.0.0.0/0", remote: "0.0.0.0/0", mode: xfrm.TunnelMode}
		switch kind {
		case "xfrm":
			c.ifID = 7
		case "vti":
			c.mark = xfrm.Mark{Value: 42, Mask: 0xffffffff}
		case "gre":
			c.local, c.remote, c.mode, c.proto = "192.0.2.2/32", moonWAN+"/32", xfrm.TransportMode, xfrm.GRE
		}
		two.connect(c)
		two.port("eth3", "", "blue", 11, "172.29.0.0/24")
		open := "in another VRF than a tunnel's " + kind + ", which finds no route there: "
		all = append(all,
			two.fault(open+"in", in, firewall.Discard, firewall.Case6),
			two.fault(open+"out", out, firewall.Refuse, firewall.Case8))
		two.s.Host.Routes = append(two.s.Host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: two.index("eth3"), Table: 11})
		closed := "in another VRF than a tunnel's " + kind + ", with its own default route: "
		all = append(all,
			two.fault(closed+"in", in, firewall.Leave, firewall.Case9),
			two.fault(closed+"out", out, firewall.Leave, firewall.Case9),
			two.fault(closed+"by an uplink, in", through("eth0", "eth1", "10.1.0.10", "10.2.0.10"), firewall.Discard, firewall.Case6),
			two.fault(closed+"by an uplink, out", through("eth1", "eth0", "10.2.0.10", "10.1.0.10"), firewall.Refuse, firewall.Case8))
		two.s.Host.Routes = append(two.s.Host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("10.2.0.0/24"), Link: two.index("red"), Table: 11})
		leaking := "in another VRF than a tunnel's " + kind + ", with a route into that: "
		all = append(all, two.fault(leaking+"in", in, firewall.Discard, firewall.Case6))
	}
	return all
}

// port adds a device in a VRF, with routes into it in the VRF's table.
func (g *faultHost) port(name, kind, vrf string, table uint32, routes ...string) {
	g.link(xfrm.Link{Name: vrf, Kind: "vrf"})
	l := xfrm.Link{Name: name, Kind: kind, Master: g.index(vrf)}
	switch kind {
	case "xfrm":
		l.IfID = 7
	case "vti":
		l.IKey, l.OKey = 42, 42
	}
	if kind == "gre" || kind == "vti" {
		l.Local, l.Remote = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr(moonWAN)
	}
	g.link(l)
	for _, r := range routes {
		g.s.Host.Routes = append(g.s.Host.Routes, xfrm.Route{Dst: netip.MustParsePrefix(r), Link: g.index(name), Table: table})
	}
}

func (g *faultHost) index(name string) int32 {
	for _, l := range g.s.Host.Links {
		if l.Name == name {
			return l.Index
		}
	}
	return 0
}
