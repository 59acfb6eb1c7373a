package fake

import (
	"net/netip"

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
	return append(all, backupFaults()...)
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
