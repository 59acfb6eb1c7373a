package fake

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// lockdownFaults are packets that come in by the WAN interface of a host under lockdown,
// where another rule than lockdown's decides.
func lockdownFaults() []Fault {
	under := func(g *faultHost) *faultHost {
		g.config.WAN = []string{"eth0"}
		g.config.Lockdown = &firewall.Lockdown{Services: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(443)}}}
		return g
	}
	wide := under(newFaultHost())
	wide.connect(connection{reqid: 1, peer: moonWAN, local: "0.0.0.0/0", remote: moonLAN, mode: xfrm.TunnelMode})
	stranger := into(1, moonWAN, through("eth0", "eth0", "198.51.100.9", "10.1.0.10"))
	reply, dhcp := stranger, stranger
	reply.Flow.Established, dhcp.Proto, dhcp.Received.SPort, dhcp.Received.DPort = true, xfrm.UDP, 67, 68
	dhcp.AfterDNAT, dhcp.Sent = dhcp.Received, dhcp.Received
	other := through("eth0", "eth1", "192.0.2.254", "10.2.0.10")
	other.Proto, other.Received.SPort, other.Received.DPort = xfrm.UDP, 67, 68
	other.AfterDNAT, other.Sent = other.Received, other.Received
	all := []Fault{
		wide.fault("lockdown: DHCP to a host behind the gateway", other, firewall.Discard, firewall.NoCase),
		wide.fault("lockdown: a stranger into a tunnel that takes any source", stranger, firewall.Discard, firewall.NoCase),
		wide.fault("lockdown: a reply into it", reply, firewall.Admit, firewall.NoCase),
		wide.fault("lockdown: a stranger's DHCP into it", dhcp, firewall.Discard, firewall.NoCase),
		wide.fault("lockdown: the LAN into it", into(1, moonWAN, through("eth1", "eth0", "10.2.0.10", "10.1.0.10")), firewall.Admit, firewall.NoCase),
	}
	device := under(newFaultHost())
	device.link(xfrm.Link{Name: "ipsec0", Kind: "xfrm", IfID: 7}, moonLAN, "0.0.0.0/1", "128.0.0.0/1")
	device.connect(connection{reqid: 1, peer: moonWAN, local: "0.0.0.0/0", remote: "0.0.0.0/0", mode: xfrm.TunnelMode, ifID: 7})
	toDevice := through("eth0", "ipsec0", "198.51.100.9", "10.1.0.10")
	all = append(all, device.fault("lockdown: a stranger into an xfrm interface", toDevice, firewall.Discard, firewall.NoCase))
	device.config.Lockdown = nil
	all = append(all, device.fault("a stranger into an xfrm interface", toDevice, firewall.Leave, firewall.Case8e),
		device.fault("the internet in halves is routed into an xfrm interface: from there in clear", toHost("eth0", "198.51.100.9", "192.0.2.2"), firewall.Leave, firewall.Case9))
	bare := under(newFaultHost())
	bare.connect(connection{reqid: 1, peer: moonWAN, local: "10.2.0.0/24", remote: moonLAN, mode: xfrm.TunnelMode, mark: xfrm.Mark{Value: 7, Mask: 0xffffffff}})
	forwarded := outOf(1, xfrm.TunnelMode, moonWAN, through("eth0", "eth1", "10.1.0.10", "10.2.0.10"))
	here := outOf(1, xfrm.TunnelMode, moonWAN, toHost("eth0", "10.1.0.10", "10.2.0.1"))
	forwarded.Tagged, here.Tagged = false, false
	for _, p := range []firewall.Passage{forwarded, here} {
		bare.config.MarkOnly = false
		all = append(all, bare.fault("lockdown: out of a policy that no bit may be on", p, firewall.Admit, firewall.Case2))
		bare.config.MarkOnly = true
		all = append(all, bare.fault("lockdown and verified: return: out of a policy that no bit may be on", p, firewall.Leave, firewall.Case2))
	}
	all = append(all, bare.fault("lockdown and verified: return: out of its SA, from elsewhere",
		outOf(1, xfrm.TunnelMode, moonWAN, toHost("eth0", "10.9.0.10", "10.2.0.1")), firewall.Discard, firewall.Case7))
	hub, ports := *bare, under(newFaultHost())
	hub.connect(connection{reqid: 2, peer: rainWAN, local: "0.0.0.0/0", remote: "10.2.0.0/24", mode: xfrm.TunnelMode})
	all = append(all, hub.fault("lockdown and verified: return: out of a policy that no bit may be on, into a tunnel that takes any source", into(2, rainWAN, forwarded), firewall.Admit, firewall.Case2))
	hub.config.Lockdown = nil
	all = append(all, hub.fault("verified: return: out of a policy that no bit may be on, into a tunnel that takes any source", into(2, rainWAN, forwarded), firewall.Admit, firewall.Case2))
	ports.connect(connection{reqid: 1, peer: moonWAN, local: "10.2.0.0/24", remote: "0.0.0.0/0", mode: xfrm.TunnelMode, down: true})
	first, answer := toHost("eth0", moonWAN, "192.0.2.2"), fromHost("eth0", "192.0.2.2", moonWAN)
	for _, p := range []*firewall.Passage{&first, &answer} {
		p.Proto, p.Flow.Proto = xfrm.UDP, xfrm.UDP
	}
	first.Received.DPort, answer.Received.SPort = 14500, 14500
	first.AfterDNAT, first.Sent, answer.AfterDNAT, answer.Sent = first.Received, first.Received, answer.Received, answer.Received
	elsewhere := first
	elsewhere.Received.DPort = 14501
	elsewhere.AfterDNAT, elsewhere.Sent = elsewhere.Received, elsewhere.Received
	all = append(all, ports.fault("lockdown: a port of IKE's that is not named", first, firewall.Discard, firewall.NoCase))
	ports.config.IKEPorts = []uint16{14500}
	all = append(all,
		ports.fault("lockdown: a named port of IKE's, the first packet", first, firewall.Admit, firewall.NoCase),
		ports.fault("lockdown: a named port of IKE's, the answer", answer, firewall.Admit, firewall.NoCase),
		ports.fault("lockdown: another port than the named one", elsewhere, firewall.Discard, firewall.NoCase))
	named := newFaultHost()
	named.connect(connection{reqid: 1, peer: moonWAN, local: "10.2.0.0/24", remote: moonLAN, mode: xfrm.TunnelMode})
	named.config.IKEPorts = []uint16{53}
	query := about("10.1.0.53", "10.2.0.1", xfrm.UDP, 53)
	query.Received.Src = netip.MustParseAddr("198.51.100.9") // of a router on the way
	query.AfterDNAT, query.Sent = query.Received, query.Received
	ike := query
	ike.Flow.OrigSPort, ike.Flow.OrigDPort = 53, 1024
	begun := query
	begun.Flow.OrigSrc, begun.Flow.OrigDst, begun.Flow.ReplySrc, begun.Flow.ReplyDst = query.Flow.OrigDst, query.Flow.OrigSrc, query.Flow.ReplyDst, query.Flow.ReplySrc
	all = append(all,
		named.fault("a port of IKE's that the far site has for another service: error about a flow to it", query, firewall.Discard, firewall.Case6),
		named.fault("a port of IKE's: error about a flow from it", ike, firewall.Leave, firewall.Case9),
		named.fault("a port of IKE's: error about a flow to it that the far end began", begun, firewall.Leave, firewall.Case9))
	for _, remote := range []string{moonLAN, "0.0.0.0/0"} {
		comp := newFaultHost()
		comp.connect(connection{reqid: 1, peer: moonWAN, local: "10.2.0.0/24", remote: remote, mode: xfrm.TunnelMode, comp: true})
		comp.config.Tunnels = []firewall.TunnelConfig{{Match: firewall.Match{Reqid: 1}, In: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(443)}}}}
		carrier := outOf(1, xfrm.TransportMode, moonWAN, toHost("eth0", moonWAN, "192.0.2.2"))
		carrier.Proto, carrier.Flow.Proto = xfrm.IPIP, xfrm.IPIP
		all = append(all,
			comp.fault("in: and IPComp, "+remote+": the carrier of a small packet", carrier, firewall.Admit, firewall.Case1c),
			comp.fault("in: and IPComp, "+remote+": a packet that in: does not name", outOf(1, xfrm.TransportMode, moonWAN, through("eth0", "eth1", "10.1.0.10", "10.2.0.10")), firewall.Discard, firewall.NoCase))
	}
	return append(all, bare.fault("lockdown and verified: return: in clear", toHost("eth0", "198.51.100.9", "192.0.2.2"), firewall.Discard, firewall.NoCase))
}
