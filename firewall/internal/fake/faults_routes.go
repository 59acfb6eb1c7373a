package fake

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// routeFaults are packets of tunnels that claim everything, where routes into a device
// and the configuration's remote: select their packets, and where a route by another line
// leads to the same network.
func routeFaults() []Fault {
	const any = "0.0.0.0/0"
	everything := connection{reqid: 1, peer: moonWAN, local: any, remote: any, mode: xfrm.TunnelMode, ifID: 7}
	two := newFaultHost()
	two.link(xfrm.Link{Name: "ipsec1", Kind: "xfrm", IfID: 7}, moonLAN)
	two.link(xfrm.Link{Name: "ipsec2", Kind: "xfrm", IfID: 8}, rainLAN)
	two.connect(everything)
	second := everything
	second.reqid, second.peer, second.ifID = 2, rainWAN, 8
	two.connect(second)
	from := func(reqid uint32, peer, device, src string) firewall.Passage {
		return outOf(reqid, xfrm.TunnelMode, peer, through(device, "eth1", src, "10.2.0.10"))
	}
	all := []Fault{
		two.fault("out of an xfrm interface for everything, from its network", from(2, rainWAN, "ipsec2", "10.3.0.10"), firewall.Admit, firewall.Case1),
		two.fault("out of an xfrm interface for everything, from another peer's", from(2, rainWAN, "ipsec2", "10.1.0.10"), firewall.Discard, firewall.Case7),
	}
	capped := []firewall.TunnelConfig{{Match: firewall.Match{Reqid: 2}, Remote: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/25")}}}
	two.config.Tunnels = capped
	all = append(all, two.fault("out of an xfrm interface, beyond the cap", from(2, rainWAN, "ipsec2", "10.3.0.200"), firewall.Discard, firewall.Case7))

	gre := newFaultHost()
	gre.link(xfrm.Link{Name: "gre1", Kind: "gre", Local: netip.MustParseAddr("192.0.2.2"), Remote: netip.MustParseAddr(rainWAN)}, rainLAN)
	gre.connect(connection{reqid: 2, peer: rainWAN, local: "192.0.2.2/32", remote: rainWAN + "/32", mode: xfrm.TransportMode, proto: xfrm.GRE})
	gre.config.Tunnels = []firewall.TunnelConfig{{Match: firewall.Match{Reqid: 2}, Remote: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/25"), netip.MustParsePrefix(rainWAN + "/32")}}}
	for src, want := range map[string]firewall.Verdict{"10.3.0.10": {Action: firewall.Admit, Case: firewall.Case4}, "10.3.0.200": {Action: firewall.Leave, Case: firewall.Case5}} {
		p := through("gre1", "eth1", src, "10.2.0.10")
		p.Verified = true
		all = append(all, gre.fault("out of GRE with a cap, from "+src, p, want.Action, want.Case))
	}

	keys := newFaultHost()
	keys.link(xfrm.Link{Name: "vti1", Kind: "vti", Local: netip.MustParseAddr("192.0.2.2"), Remote: netip.MustParseAddr(moonWAN), IKey: 7, OKey: 8}, moonLAN)
	for key, dirs := range map[uint32][]xfrm.Dir{7: {xfrm.In, xfrm.Fwd}, 8: {xfrm.Out}} {
		c := everything
		c.ifID, c.mark, c.dirs = 0, xfrm.Mark{Value: key, Mask: 0xffffffff}, dirs
		keys.connect(c)
	}
	inner := through("vti1", "eth1", "10.1.0.10", "10.2.0.10")
	inner.Tagged = true
	all = append(all,
		keys.fault("VTI with two keys: out of it", inner, firewall.Admit, firewall.Case4),
		keys.fault("VTI with two keys: the LAN to the internet", through("eth1", "eth0", "10.2.0.10", "198.51.100.9"), firewall.Leave, firewall.Case9),
		keys.fault("VTI with two keys: the internet to the host", toHost("eth0", "198.51.100.9", "192.0.2.2"), firewall.Leave, firewall.Case9))
	all = append(all, backupFaults()...)
	all = append(all, movingFaults()...)
	all = append(all, siteFaults()...)
	return append(all, goneFaults()...)
}

// backupFaults are packets of a network that a leased line and a tunnel lead to: packets
// by the line are left alone, now and when routes move, and packets by the uplink are
// judged.
func backupFaults() []Fault {
	var all []Fault
	for _, kind := range []string{"xfrm", "vti", "memory", "memory of a device"} {
		g := newFaultHost()
		c := connection{reqid: 1, peer: moonWAN, local: "0.0.0.0/0", remote: "0.0.0.0/0", mode: xfrm.TunnelMode}
		switch kind {
		case "xfrm":
			g.link(xfrm.Link{Name: "tun1", Kind: "xfrm", IfID: 7}, moonLAN)
			c.ifID = 7
			g.connect(c)
		case "vti":
			g.link(xfrm.Link{Name: "tun1", Kind: "vti", Local: netip.MustParseAddr("192.0.2.2"), Remote: netip.MustParseAddr(moonWAN), IKey: 42, OKey: 42}, moonLAN)
			c.mark = xfrm.Mark{Value: 42, Mask: 0xffffffff}
			g.connect(c)
		default:
			g.guards = []guard.Guard{{
				Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix(moonLAN), Source: guard.FromMemory, Routed: kind != "memory", Expires: 1 << 40,
			}}
		}
		in, out := through("eth0", "eth1", "10.1.0.10", "10.2.0.10"), through("eth1", "eth0", "10.2.0.10", "10.1.0.10")
		for _, moved := range []string{"", ", with a route by a leased line"} {
			name := "tunnel as a backup (" + kind + ")" + moved + ": "
			all = append(all,
				g.fault(name+"in by the uplink", in, firewall.Discard, firewall.Case6),
				g.fault(name+"out by the uplink", out, firewall.Refuse, firewall.Case8))
			if moved == "" {
				g.link(xfrm.Link{Name: "leased0"}, moonLAN)
				continue
			}
			byLine, toLine := in, out
			byLine.In, toLine.Out = "leased0", "leased0"
			all = append(all,
				g.fault(name+"in by the line", byLine, firewall.Leave, firewall.Case9),
				g.fault(name+"out by the line", toLine, firewall.Leave, firewall.Case9))
		}
	}
	return all
}

// movingFaults are packets of a network with a route that a routing protocol moves between
// a leased line and a tunnel's device, at other times here than at the other end: what
// comes by the way without the route, or leaves by the line before the rules follow, is left
// alone. A LAN and an uplink stay guarded.
func movingFaults() []Fault {
	var all []Fault
	for _, kind := range []string{"xfrm", "vti", "gre"} {
		g := newFaultHost()
		l := xfrm.Link{Name: "tun1", Kind: kind, Local: netip.MustParseAddr("192.0.2.2"), Remote: netip.MustParseAddr(moonWAN)}
		c := connection{reqid: 1, peer: moonWAN, local: "0.0.0.0/0", remote: "0.0.0.0/0", mode: xfrm.TunnelMode}
		inner := through("tun1", "eth1", "10.1.0.10", "10.2.0.10")
		accepted := firewall.Verdict{Action: firewall.Admit, Case: firewall.Case4}
		switch kind {
		case "xfrm":
			l.Local, l.Remote, l.IfID, c.ifID = netip.Addr{}, netip.Addr{}, 7, 7
			inner, accepted.Case = outOf(1, xfrm.TunnelMode, moonWAN, inner), firewall.Case1
		case "vti":
			l.IKey, l.OKey, c.mark = 42, 42, xfrm.Mark{Value: 42, Mask: 0xffffffff}
			inner.Tagged = true
		case "gre":
			c.local, c.remote, c.mode, c.proto = "192.0.2.2/32", moonWAN+"/32", xfrm.TransportMode, xfrm.GRE
			inner.Verified = true
		}
		g.link(l, "172.23.0.0/30")
		g.connect(c)
		g.link(xfrm.Link{Name: "leased0"})
		g.link(xfrm.Link{Name: "guests0"}, "10.99.0.0/24")
		route := func(device string) xfrm.Route {
			return xfrm.Route{Dst: netip.MustParsePrefix(moonLAN), Link: g.index(device)}
		}
		elsewhere := slices.Clip(g.s.Host.Routes)
		g.s.Host.Routes = append(elsewhere, route("tun1"))
		input := g.input()
		g.guards = guard.Remember(nil, guard.Live(input.Set, input.Host), input.Set, input.Host, nil, guard.Config{}, 1).Guards
		for _, device := range []string{"leased0", "eth0"} { // eth0 had the route before it was an uplink
			g.lines = append(g.lines, guard.Line{Network: netip.MustParsePrefix("10.0.0.0/8"), Device: device, Expires: 1 << 40})
		}
		for _, at := range []string{"tun1", "leased0", "nowhere"} {
			if g.s.Host.Routes = elsewhere; at != "nowhere" {
				g.s.Host.Routes = append(elsewhere, route(at))
			}
			name := "a moving route (" + kind + "), by " + at + " now: "
			all = append(all,
				g.fault(name+"in by the line", through("leased0", "eth1", "10.1.0.10", "10.2.0.10"), firewall.Leave, firewall.Case9),
				g.fault(name+"to the host by the line", toHost("leased0", "10.1.0.10", "10.2.0.1"), firewall.Leave, firewall.Case9),
				g.fault(name+"out by the line", through("eth1", "leased0", "10.2.0.10", "10.1.0.10"), firewall.Leave, firewall.Case9),
				g.fault(name+"the host's own by the line", fromHost("leased0", "10.2.0.1", "10.1.0.10"), firewall.Leave, firewall.Case9),
				g.fault(name+"out of the device", inner, accepted.Action, accepted.Case),
				g.fault(name+"into the device", through("eth1", "tun1", "10.2.0.10", "10.1.0.10"), firewall.Admit, firewall.NoCase),
				g.fault(name+"in by the uplink", through("eth0", "eth1", "10.1.0.10", "10.2.0.10"), firewall.Discard, firewall.Case6),
				g.fault(name+"in by another LAN", through("guests0", "eth1", "10.1.0.10", "10.2.0.10"), firewall.Discard, firewall.Case6),
				g.fault(name+"out by the uplink", through("eth1", "eth0", "10.2.0.10", "10.1.0.10"), firewall.Refuse, firewall.Case8),
				g.fault(name+"out by another LAN", through("eth1", "guests0", "10.2.0.10", "10.1.0.10"), firewall.Refuse, firewall.Case8))
		}
	}
	return all
}

// siteFaults are packets of a site that two tunnels lead to: the route leads into the one,
// and the site sends by the other, too.
func siteFaults() []Fault {
	g := newFaultHost()
	for i, peer := range []string{moonWAN, rainWAN} {
		id := uint32(i + 1)
		g.link(xfrm.Link{Name: []string{"tun1", "tun2"}[i], Kind: "xfrm", IfID: id}, []string{moonLAN, "172.23.0.4/30"}[i])
		g.connect(connection{reqid: id, peer: peer, local: "0.0.0.0/0", remote: "0.0.0.0/0", mode: xfrm.TunnelMode, ifID: id})
		g.config.Tunnels = append(g.config.Tunnels, firewall.TunnelConfig{Match: firewall.Match{Reqid: id}, Site: "branch"})
	}
	route := outOf(1, xfrm.TunnelMode, moonWAN, through("tun1", "eth1", "10.1.0.10", "10.2.0.10"))
	other := outOf(2, xfrm.TunnelMode, rainWAN, through("tun2", "eth1", "10.1.0.10", "10.2.0.10"))
	all := []Fault{
		g.fault("two tunnels to one site: out of the one with the route", route, firewall.Admit, firewall.Case1),
		g.fault("two tunnels to one site: out of the other", other, firewall.Admit, firewall.Case1),
		g.fault("two tunnels to one site: from another site", outOf(2, xfrm.TunnelMode, rainWAN, through("tun2", "eth1", "10.4.0.10", "10.2.0.10")), firewall.Discard, firewall.Case7),
	}
	g.config.Tunnels[1].Site = "elsewhere"
	return append(all, g.fault("two tunnels to two sites: out of the one without the route", other, firewall.Discard, firewall.Case7))
}
