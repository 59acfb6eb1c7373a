package fake

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

const (
	moonWAN, rainWAN = "192.0.2.1", "192.0.2.66"
	moonLAN, rainLAN = "10.1.0.0/24", "10.3.0.0/24"
)

// vtiFaults are packets out of and into devices that tell their tunnel by routes and
// selectors: nothing beyond remote: is verified, and tunnels that share a device are
// told apart.
func vtiFaults() []Fault {
	key := xfrm.Mark{Value: 42, Mask: 0xffffffff}
	tagged := func(p firewall.Passage) firewall.Passage {
		p.Tagged = true
		return p
	}
	web := []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(443)}}
	vti := func(remote string) *faultHost {
		g := newFaultHost()
		l := xfrm.Link{Name: "vti0", Kind: "vti", Local: netip.MustParseAddr("192.0.2.2"), IKey: 42, OKey: 42}
		if remote != "" {
			l.Remote = netip.MustParseAddr(remote)
		}
		g.link(l, moonLAN)
		return g
	}
	one := vti(moonWAN)
	one.connect(connection{reqid: 1, peer: moonWAN, local: "0.0.0.0/0", remote: "0.0.0.0/0", mode: xfrm.TunnelMode, mark: key})
	lan, beyond := tagged(through("vti0", "eth1", "10.1.0.10", "10.2.0.10")), tagged(through("vti0", "eth1", "10.77.0.5", "10.2.0.10"))
	all := []Fault{
		one.fault("out of a VTI, from what is routed into it", lan, firewall.Admit, firewall.Case4),
		one.fault("out of a VTI, from elsewhere", beyond, firewall.Leave, firewall.Case5),
	}
	answer := beyond
	answer.Proto, answer.ICMPType, answer.Flow.Proto, answer.Flow.Related = xfrm.ICMP, 11, xfrm.TCP, true
	answer.Flow.OrigSrc, answer.Flow.OrigDst = netip.MustParseAddr("10.2.0.10"), netip.MustParseAddr("10.1.0.10")
	answer.Flow.ReplySrc, answer.Flow.ReplyDst = answer.Flow.OrigDst, answer.Flow.OrigSrc
	all = append(all, one.fault("out of a VTI, a router's error about the tunnel's flow", answer, firewall.Admit, firewall.Case4))
	one.config.Tunnels = []firewall.TunnelConfig{{Match: firewall.Match{Reqid: 1}, Remote: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/25")}}}
	lan.Received.Src = netip.MustParseAddr("10.1.0.200")
	lan.AfterDNAT, lan.Sent = lan.Received, lan.Received
	all = append(all, one.fault("out of a VTI, beyond the cap", lan, firewall.Leave, firewall.Case5))

	shared := vti("")
	shared.s.Host.Routes = append(shared.s.Host.Routes, xfrm.Route{Dst: netip.MustParsePrefix(rainLAN), Link: shared.s.Host.Links[3].Index})
	shared.connect(connection{reqid: 1, peer: moonWAN, local: "0.0.0.0/0", remote: moonLAN, mode: xfrm.TunnelMode, mark: key})
	shared.connect(connection{reqid: 2, peer: rainWAN, local: "0.0.0.0/0", remote: rainLAN, mode: xfrm.TunnelMode, mark: key})
	shared.config.Tunnels = []firewall.TunnelConfig{{Match: firewall.Match{Reqid: 2}, In: web, Out: web}}
	all = append(all, sharedFaults(shared, "vti0", "a shared VTI", firewall.Case4, tagged(through("vti0", "eth1", "10.1.0.10", "10.2.0.10")), tagged(through("vti0", "eth1", "10.3.0.10", "10.2.0.10")))...)
	all = append(all, shared.fault("out of a shared VTI, from no tunnel's address", tagged(through("vti0", "eth1", "10.77.0.5", "10.2.0.10")), firewall.Discard, firewall.NoCase))
	nested := vti("")
	nested.s.Host.Routes = append(nested.s.Host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("10.1.0.0/16"), Link: nested.s.Host.Links[3].Index})
	nested.connect(connection{reqid: 1, peer: moonWAN, local: "0.0.0.0/0", remote: "10.1.0.0/16", mode: xfrm.TunnelMode, mark: key})
	nested.connect(connection{reqid: 2, peer: rainWAN, local: "0.0.0.0/0", remote: moonLAN, mode: xfrm.TunnelMode, mark: key})
	for _, src := range []string{"10.1.0.10", "10.1.9.10"} {
		all = append(all, nested.fault("out of a shared VTI, with one network within the other, from "+src, tagged(through("vti0", "eth1", src, "10.2.0.10")), firewall.Admit, firewall.Case4))
	}

	xfrmi := newFaultHost()
	xfrmi.link(xfrm.Link{Name: "ipsec0", Kind: "xfrm", IfID: 7}, moonLAN, rainLAN)
	xfrmi.connect(connection{reqid: 1, peer: moonWAN, local: "10.2.0.0/24", remote: moonLAN, mode: xfrm.TunnelMode, ifID: 7})
	xfrmi.connect(connection{reqid: 2, peer: moonWAN, local: "10.2.0.0/24", remote: rainLAN, mode: xfrm.TunnelMode, ifID: 7})
	xfrmi.config.Tunnels = []firewall.TunnelConfig{{Match: firewall.Match{Reqid: 2}, In: web, Out: web}}
	a := outOf(1, xfrm.TunnelMode, moonWAN, through("ipsec0", "eth1", "10.1.0.10", "10.2.0.10"))
	b := outOf(2, xfrm.TunnelMode, moonWAN, through("ipsec0", "eth1", "10.3.0.10", "10.2.0.10"))
	all = append(all, sharedFaults(xfrmi, "ipsec0", "a shared xfrm interface", firewall.Case1, a, b)...)
	xfrmi.config.Tunnels[0].Match.Reqid = 1
	all = append(all,
		xfrmi.fault("into a shared xfrm interface, the other tunnel", through("eth1", "ipsec0", "10.2.0.10", "10.3.0.10"), firewall.Admit, firewall.NoCase),
		xfrmi.fault("into a shared xfrm interface, the one with out:", through("eth1", "ipsec0", "10.2.0.10", "10.1.0.10"), firewall.Refuse, firewall.NoCase))
	all = append(all, unroutedFaults()...)
	wide := newFaultHost()
	wide.link(xfrm.Link{Name: "ipsec0", Kind: "xfrm", IfID: 7}, "10.0.0.0/8")
	wide.connect(connection{reqid: 1, peer: moonWAN, local: "10.2.0.0/24", remote: moonLAN, mode: xfrm.TunnelMode, ifID: 7, priority: 10})
	wide.connect(connection{reqid: 2, peer: moonWAN, local: "10.2.0.0/24", remote: "10.0.0.0/8", mode: xfrm.TunnelMode, ifID: 7, priority: 20})
	wide.config.Tunnels = []firewall.TunnelConfig{{Match: firewall.Match{Reqid: 2}, Out: web}}
	return append(all,
		wide.fault("into a shared xfrm interface, by the policy that the kernel finds first", through("eth1", "ipsec0", "10.2.0.10", "10.1.0.10"), firewall.Admit, firewall.NoCase),
		wide.fault("into a shared xfrm interface, by the policy that is left", through("eth1", "ipsec0", "10.2.0.10", "10.9.0.10"), firewall.Refuse, firewall.NoCase))
}

// sharedFaults are the packets of two tunnels that share a device. The second one is
// restricted to a service that they do not use.
func sharedFaults(g *faultHost, device, name string, verified firewall.Case, a, b firewall.Passage) []Fault {
	return []Fault{
		g.fault("out of "+name+", the tunnel without in:", a, firewall.Admit, verified),
		g.fault("out of "+name+", the tunnel with in:", b, firewall.Discard, firewall.NoCase),
		g.fault("into "+name+", the tunnel without out:", through("eth1", device, "10.2.0.10", "10.1.0.10"), firewall.Admit, firewall.NoCase),
		g.fault("into "+name+", the tunnel with out:", through("eth1", device, "10.2.0.10", "10.3.0.10"), firewall.Refuse, firewall.NoCase),
	}
}

// unroutedFaults are packets of a peer with a device into which no route leads: it may
// send nothing but link-local multicast, by which routing protocols find their neighbours,
// unless remote: names its networks. A cap that leaves nothing of what is routed into a VTI
// leaves nothing.
func unroutedFaults() []Fault {
	capped := func(p string) []firewall.TunnelConfig {
		return []firewall.TunnelConfig{{Match: firewall.Match{Reqid: 2}, Remote: []netip.Prefix{netip.MustParsePrefix(p)}}}
	}
	var all []Fault
	for _, kind := range []string{"xfrm", "vti"} {
		g := newFaultHost()
		rain := xfrm.Link{Name: "tun2", Kind: kind}
		c := connection{reqid: 2, peer: rainWAN, local: "0.0.0.0/0", remote: "0.0.0.0/0", mode: xfrm.TunnelMode}
		from := func(src string) firewall.Passage {
			return outOf(2, xfrm.TunnelMode, rainWAN, through("tun2", "eth1", src, "10.2.0.10"))
		}
		refused, accepted := firewall.Verdict{Action: firewall.Discard, Case: firewall.Case7}, firewall.Verdict{Action: firewall.Admit, Case: firewall.Case1}
		forged := refused
		if kind == "xfrm" {
			rain.IfID, c.ifID = 2, 2
		} else {
			rain.Local, rain.Remote, rain.IKey, rain.OKey = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr(rainWAN), 42, 42
			c.mark = xfrm.Mark{Value: 42, Mask: 0xffffffff}
			from = func(src string) firewall.Passage {
				p := through("tun2", "eth1", src, "10.2.0.10")
				p.Tagged = true
				return p
			}
			refused, accepted = firewall.Verdict{Action: firewall.Leave, Case: firewall.Case5}, firewall.Verdict{Action: firewall.Admit, Case: firewall.Case4}
			forged = firewall.Verdict{Action: firewall.Discard, Case: firewall.Case6}
		}
		g.link(rain)
		g.connect(c)
		g.link(xfrm.Link{Name: "tun1", Kind: "xfrm", IfID: 1}, moonLAN)
		g.connect(connection{reqid: 1, peer: moonWAN, local: "0.0.0.0/0", remote: "0.0.0.0/0", mode: xfrm.TunnelMode, ifID: 1})
		judge := func(name, src string, want firewall.Verdict) {
			all = append(all, g.fault("out of a device ("+kind+") without a route"+name, from(src), want.Action, want.Case))
		}
		judge(", from another peer's network", "10.1.0.10", forged)
		judge(", from elsewhere", "198.51.100.9", refused)
		if kind == "xfrm" {
			hello := outOf(2, xfrm.TunnelMode, rainWAN, toHost("tun2", "10.255.0.2", "224.0.0.5"))
			hello.Proto, hello.Flow.Proto = 89, 89 // OSPF
			hello.Received.SPort, hello.Received.DPort = 0, 0
			hello.AfterDNAT, hello.Sent = hello.Received, hello.Received
			all = append(all, g.fault("a neighbour's greeting out of a device without a route", hello, firewall.Admit, firewall.Case1))
		}
		g.config.Tunnels = capped(rainLAN)
		judge(", from what remote: names", "10.3.0.10", accepted)
		judge(" with remote:, from another peer's network", "10.1.0.10", forged)
		g.s.Host.Routes = append(g.s.Host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("10.4.0.0/24"), Link: g.index("tun2")})
		all = append(all, g.fault("out of a device ("+kind+") with a route beyond remote:", from("10.4.0.10"), refused.Action, refused.Case))
	}
	return all
}

// asideFaults are packets of the LAN that leave by the LAN's interface again, to a second
// gateway that a tunnel moved to.
func asideFaults() []Fault {
	g := newFaultHost()
	g.connect(connection{reqid: 1, peer: moonWAN, local: "10.2.0.0/16", remote: moonLAN, mode: xfrm.TunnelMode, down: true})
	g.link(xfrm.Link{Name: "eth2"}, "10.2.9.0/24")
	all := []Fault{
		g.fault("to a second gateway on the LAN", through("eth1", "eth1", "10.2.0.10", "10.1.0.10"), firewall.Leave, firewall.Case9),
		g.fault("the host's own to a second gateway on the LAN", fromHost("eth1", "10.2.0.1", "10.1.0.10"), firewall.Leave, firewall.Case9),
		g.fault("by another network's interface", through("eth1", "eth2", "10.2.0.10", "10.1.0.10"), firewall.Refuse, firewall.Case8),
		g.fault("of another network by the LAN's interface", through("eth2", "eth1", "10.2.9.10", "10.1.0.10"), firewall.Refuse, firewall.Case8),
		g.fault("by the uplink, with a second gateway on the LAN", through("eth1", "eth0", "10.2.0.10", "10.1.0.10"), firewall.Refuse, firewall.Case8),
	}
	one := newOneArmed()
	one.connect(connection{reqid: 1, peer: moonWAN, local: "192.0.2.0/24", remote: moonLAN, mode: xfrm.TunnelMode, down: true})
	return append(all, one.fault("out of a one-armed gateway by its interface", through("eth0", "eth0", "192.0.2.10", "10.1.0.10"), firewall.Refuse, firewall.Case8))
}

// carrierFaults are the carriers and the payload of overlay devices: of those that take
// any peer, of connections that have one direction each, and of VLANs above a device;
// and packets in clear of networks routed into one.
func carrierFaults() []Fault {
	addr := netip.MustParseAddr
	verified := func(p firewall.Passage) firewall.Passage {
		p.Verified = true
		return p
	}
	of := func(p firewall.Passage, proto xfrm.Proto, port uint16) firewall.Passage {
		p.Proto, p.Flow.Proto = proto, proto
		p.Received.SPort, p.Received.DPort = 0, 0
		if port != 0 {
			p.Received.SPort, p.Received.DPort = 50000, port
		}
		p.AfterDNAT, p.Sent = p.Received, p.Received
		return p
	}
	host := func(reqid uint32, peer string) connection {
		return connection{reqid: reqid, peer: peer, local: "192.0.2.2/32", remote: peer + "/32", mode: xfrm.TransportMode, proto: xfrm.GRE}
	}
	mgre := newFaultHost()
	mgre.link(xfrm.Link{Name: "gre1", Kind: "gre", Local: addr("192.0.2.2")}, "172.20.0.0/24", moonLAN)
	mgre.connect(host(1, moonWAN))
	mgre.connect(host(2, rainWAN))
	mgre.connect(connection{reqid: 3, peer: "203.0.113.3", local: "0.0.0.0/0", remote: "0.0.0.0/0", mode: xfrm.TunnelMode, priority: 9000})
	carrier := of(toHost("eth0", moonWAN, "192.0.2.2"), xfrm.GRE, 0)
	stranger := of(toHost("eth0", "203.0.113.9", "192.0.2.2"), xfrm.GRE, 0)
	all := []Fault{
		mgre.fault("carrier of mGRE, out of its tunnel", outOf(1, xfrm.TransportMode, moonWAN, carrier), firewall.Admit, firewall.Case1),
		mgre.fault("carrier of mGRE, out of another peer's tunnel", outOf(2, xfrm.TransportMode, rainWAN, carrier), firewall.Discard, firewall.Case7),
		mgre.fault("carrier of mGRE from a stranger to it, out of a tunnel for everything", outOf(3, xfrm.TunnelMode, "203.0.113.3", stranger), firewall.Discard, firewall.Case7),
		mgre.fault("out of mGRE, with the carrier's mark", verified(through("gre1", "eth1", "10.1.0.10", "10.2.0.10")), firewall.Admit, firewall.Case4),
		mgre.fault("out of mGRE, from a carrier in clear", through("gre1", "eth1", "10.66.0.10", "192.168.9.9"), firewall.Discard, firewall.Case6),
	}
	web := []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(443)}}
	of2 := firewall.TunnelConfig{Match: firewall.Match{Reqid: 2}, Remote: []netip.Prefix{netip.MustParsePrefix(rainLAN), netip.MustParsePrefix(rainWAN + "/32")}, In: web, Out: web}
	mgre.config.Tunnels = []firewall.TunnelConfig{of2}
	all = append(all, sharedFaults(mgre, "gre1", "mGRE that tunnels share", firewall.Case4,
		verified(through("gre1", "eth1", "10.1.0.10", "10.2.0.10")), verified(through("gre1", "eth1", "10.3.0.10", "10.2.0.10")))...)
	of1 := firewall.TunnelConfig{Match: firewall.Match{Reqid: 1}, Remote: []netip.Prefix{netip.MustParsePrefix(moonLAN), netip.MustParsePrefix(moonWAN + "/32")}}
	mgre.config.Tunnels = []firewall.TunnelConfig{of1, of2}
	all = append(all,
		mgre.fault("into mGRE, where each tunnel has a cap", through("eth1", "gre1", "10.2.0.10", "10.1.0.10"), firewall.Admit, firewall.NoCase),
		mgre.fault("into mGRE, beyond the cap of each tunnel", through("eth1", "gre1", "10.2.0.10", "10.77.0.10"), firewall.Refuse, firewall.NoCase))
	ports := newFaultHost()
	ports.link(xfrm.Link{Name: "gnv", Kind: "geneve", Remote: addr(moonWAN), Port: 6081}, "172.22.0.0/24")
	in := connection{reqid: 1, peer: moonWAN, local: "192.0.2.2/32", remote: moonWAN + "/32", mode: xfrm.TransportMode, proto: xfrm.UDP, localPort: 6081}
	out := in
	out.reqid, out.localPort, out.remotePort = 2, 0, 6081
	ports.connect(out)
	ports.connect(in)
	carrier = of(toHost("eth0", moonWAN, "192.0.2.2"), xfrm.UDP, 6081)
	all = append(all,
		ports.fault("carrier of Geneve, out of the connection that carries this direction", outOf(1, xfrm.TransportMode, moonWAN, carrier), firewall.Admit, firewall.Case1),
		ports.fault("carrier of Geneve, out of the connection for the other direction", outOf(2, xfrm.TransportMode, moonWAN, carrier), firewall.Discard, firewall.Case7),
		ports.fault("error of a peer in a connected network, about a flow beside the tunnel", about(moonWAN, "192.0.2.2", xfrm.TCP, 6081), firewall.Leave, firewall.Case9),
		ports.fault("error of a peer in a connected network, about a flow of the tunnel", about(moonWAN, "192.0.2.2", xfrm.UDP, 6081), firewall.Discard, firewall.Case6))
	vlan := newFaultHost()
	vlan.link(xfrm.Link{Name: "tap1", Kind: "gretap", Local: addr("192.0.2.2"), Remote: addr(moonWAN)}, "172.23.0.0/24")
	tap := &vlan.s.Host.Links[3]
	vlan.link(xfrm.Link{Name: "tap1.5", Kind: "vlan", Parent: tap.Index}, moonLAN)
	vlan.link(xfrm.Link{Name: "br0", Kind: "bridge"})
	vlan.s.Host.Links[3].Master = vlan.s.Host.Links[5].Index
	vlan.link(xfrm.Link{Name: "br0.6", Kind: "vlan", Parent: vlan.s.Host.Links[5].Index})
	vlan.connect(host(1, moonWAN))
	for _, device := range []string{"tap1", "tap1.5", "br0", "br0.6"} {
		all = append(all,
			vlan.fault("out of "+device+", with the carrier's mark", verified(through(device, "eth1", "10.9.0.10", "10.2.0.10")), firewall.Admit, firewall.Case4))
	}
	all = append(all,
		vlan.fault("out of br0, without a mark", through("br0", "eth1", "10.9.0.10", "10.2.0.10"), firewall.Leave, firewall.Case9),
		vlan.fault("into a VLAN above gretap", through("eth1", "tap1.5", "10.2.0.10", "10.1.0.10"), firewall.Admit, firewall.NoCase),
		vlan.fault("in clear, from what is routed into a VLAN above gretap", through("eth0", "eth1", "10.1.0.10", "10.2.0.10"), firewall.Discard, firewall.Case6),
		vlan.fault("in clear, to what is routed into a VLAN above gretap", through("eth1", "eth0", "10.2.0.10", "10.1.0.10"), firewall.Refuse, firewall.Case8),
		vlan.fault("in clear by the host itself, to what is routed into gretap", fromHost("eth0", "192.0.2.2", "172.23.0.1"), firewall.Refuse, firewall.Case8))
	vlan.s.Host.Routes = vlan.s.Host.Routes[:3]
	vlan.guards = []guard.Guard{{Local: netip.MustParsePrefix("0.0.0.0/0"), Remote: netip.MustParsePrefix(moonLAN), Source: guard.FromMemory, Routed: true, Expires: 1 << 40}}
	return append(all, vlan.fault("in clear, to what was routed into an overlay device", through("eth1", "eth0", "10.2.0.10", "10.1.0.10"), firewall.Refuse, firewall.Case8))
}
