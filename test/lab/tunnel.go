package lab

import (
	"fmt"
	"net/netip"
	"testing"
)

// A Carrier is the interface that takes packets into a tunnel.
type Carrier string

// The carriers. NoCarrier is a tunnel without an interface: its policies alone choose the
// packets.
const (
	NoCarrier     Carrier = ""
	XFRMInterface Carrier = "xfrm" // ipsec0, by if_id
	VTI           Carrier = "vti"  // vti0, by mark
	GRE           Carrier = "gre"  // gre1, over ESP in transport mode
)

// An IPsec is a connection between the two gateways of a Network, as configurations of
// IKE daemons on both sides describe it. The zero value of each field is that of most
// tunnels.
type IPsec struct {
	// Inner is the family of the packets that it protects, Outer that of the packets on the WAN. Zero is IPv4, and
	// the inner family.
	Inner, Outer Family
	// Reqid is by default 11. The SPIs are 0x1000*Reqid+1 from moon to sun, and +2 from sun to moon.
	Reqid uint32
	// MoonNets and SunNets are the protected networks of either side: by default the gateway's inner network.
	MoonNets, SunNets []netip.Prefix
	// Transport is host-to-host: it protects the traffic between the gateways' outer addresses.
	Transport bool
	// Upper are further words of the selectors, such as proto tcp.
	Upper string
	// NATT encapsulates ESP in UDP. Up opens the sockets for it; with NATTGRO set, as new IKE daemons do.
	NATT, NATTGRO bool
	// Compress adds IPComp.
	Compress bool
	// CBC uses cbc(aes) with hmac(sha256).
	CBC bool
	// Carrier is the interface for the tunnel. Up makes it, with the routes, on both gateways.
	Carrier Carrier
	// IfID of the SAs and policies; 7 for an XFRM interface if it is zero.
	IfID uint32
	// Mark of the SAs and policies; 42 with all bits for a VTI if it is zero.
	Mark Mark
	// InboundMark is the output-mark of the inbound SAs. They set the mark of a decrypted
	// packet by it.
	InboundMark Mark
	// Priority of the policies.
	Priority uint32
	// Flags are further words for ip xfrm state add.
	Flags string
}

// Up establishes the connection on both gateways. The test is skipped where the kernel has no such interface.
func (n *Network) Up(t testing.TB, c IPsec) {
	t.Helper()
	c = c.withDefaults()
	if c.Carrier == XFRMInterface {
		NotInUML(t, "XFRM interfaces")
	}
	for _, gateway := range n.Gateways() {
		if c.NATT {
			gateway.HoldUDPEncap(t, c.Outer, 4500, c.NATTGRO)
		}
		gateway.IP(t, join(lines(n.SAs(gateway, c), SA.line), lines(n.Policies(gateway, c), Policy.line),
			n.carrier(gateway, c))...)
		if c.Carrier == VTI {
			// The policies are for the packets inside, and were asked when these reached the interface.
			gateway.Sysctl(t, "net/ipv4/conf/vti0/disable_policy=1")
		}
	}
}

// Down takes the connection down, as an IKE daemon does: SAs and policies go, an interface stays.
func (n *Network) Down(t testing.TB, c IPsec) {
	t.Helper()
	for _, gateway := range n.Gateways() {
		gateway.IP(t, join(lines(n.Policies(gateway, c), Policy.deletion), lines(n.SAs(gateway, c), SA.deletion))...)
	}
}

// Rekeyed is the connection with the SPIs of its n-th rekeying: the same reqid, other SAs.
func (n *Network) Rekeyed(c IPsec, generation int) []SA {
	sas := n.SAs(n.Moon, c)
	for i := range sas {
		sas[i].SPI += 0x100 * uint32(generation)
	}
	return sas
}

// SAs are the security associations of the connection, the inbound ones of that gateway first.
func (n *Network) SAs(gateway *Host, c IPsec) []SA {
	c = c.withDefaults()
	inbound, outbound := n.spis(gateway, c)
	us, peer := gateway.Outer(c.Outer), n.Peer(gateway).Outer(c.Outer)
	var sas []SA
	for _, way := range []struct {
		src, dst   netip.Addr
		spi        uint32
		outputMark Mark
	}{{peer, us, inbound, c.InboundMark}, {us, peer, outbound, Mark{}}} {
		sa := SA{
			Src: way.src, Dst: way.dst, SPI: way.spi, Mode: c.mode(), Reqid: c.Reqid, NATT: c.NATT, CBC: c.CBC,
			Mark: c.Mark, OutputMark: way.outputMark, IfID: c.IfID, Flags: c.Flags,
		}
		if c.Compress {
			comp := sa
			comp.Proto, comp.NATT, comp.SPI = "comp", false, way.spi&0xffff
			sas = append(sas, comp)
			sa.Mode = Transport
		}
		sas = append(sas, sa)
	}
	return sas
}

// Policies are the policies of the connection on that gateway: out, in and fwd for each pair of networks.
func (n *Network) Policies(gateway *Host, c IPsec) []Policy {
	c = c.withDefaults()
	us, peer := gateway.Outer(c.Outer), n.Peer(gateway).Outer(c.Outer)
	local, remote := n.nets(gateway, c), n.nets(n.Peer(gateway), c)
	var policies []Policy
	for _, l := range local {
		for _, r := range remote {
			one := Policy{Upper: c.Upper, Mark: c.Mark, IfID: c.IfID, Priority: c.Priority}
			out, in := one, one
			out.Dir, out.Src, out.Dst, out.Templates = "out", l, r, c.templates(us, peer, false)
			in.Dir, in.Src, in.Dst, in.Templates = "in", r, l, c.templates(peer, us, true)
			fwd := in
			fwd.Dir = "fwd"
			policies = append(policies, out, in)
			if c.mode() == Tunnel {
				policies = append(policies, fwd)
			}
		}
	}
	return policies
}

// templates are the templates of a policy, innermost first. The inbound template for
// IPComp must be optional, because the kernel leaves small packets uncompressed.
func (c IPsec) templates(src, dst netip.Addr, inbound bool) []Template {
	esp := Template{Src: src, Dst: dst, Mode: c.mode(), Reqid: c.Reqid}
	if !c.Compress {
		return []Template{esp}
	}
	comp := esp
	comp.Proto, comp.Optional = "comp", inbound
	esp.Mode = Transport
	return []Template{comp, esp}
}

func (c IPsec) mode() Mode {
	if c.Transport {
		return Transport
	}
	return Tunnel
}

// withDefaults puts the defaults in place of zero values.
func (c IPsec) withDefaults() IPsec {
	if c.Inner == 0 {
		c.Inner = IPv4
	}
	if c.Outer == 0 {
		c.Outer = c.Inner
	}
	if c.Reqid == 0 {
		c.Reqid = 11
	}
	switch c.Carrier {
	case XFRMInterface:
		if c.IfID == 0 {
			c.IfID = 7
		}
	case VTI:
		if c.Mark == (Mark{}) {
			c.Mark = Mark{42, 0xffffffff}
		}
	case GRE:
		c.Transport = true
		c.Upper = "proto gre"
	}
	return c
}

// spis are the SPIs of the gateway's inbound and outbound SA.
func (n *Network) spis(gateway *Host, c IPsec) (inbound, outbound uint32) {
	toSun, toMoon := 0x1000*c.Reqid+1, 0x1000*c.Reqid+2
	if gateway == n.Sun {
		return toSun, toMoon
	}
	return toMoon, toSun
}

// nets are the selectors on the gateway's side.
func (n *Network) nets(gateway *Host, c IPsec) []netip.Prefix {
	given := c.MoonNets
	if gateway == n.Sun {
		given = c.SunNets
	}
	switch {
	case len(given) > 0:
		return given
	case c.mode() == Transport:
		outer := gateway.Outer(c.Outer)
		return []netip.Prefix{netip.PrefixFrom(outer, outer.BitLen())}
	case c.Carrier != NoCarrier:
		return []netip.Prefix{c.Inner.any()} // routes choose the packets
	}
	return []netip.Prefix{gateway.InnerNet(c.Inner)}
}

// carrier are the ip commands that make the interface of the connection and send the peer's protected network into it.
func (n *Network) carrier(gateway *Host, c IPsec) []string {
	us, peer := gateway.Outer(c.Outer), n.Peer(gateway).Outer(c.Outer)
	v6 := c.Outer == IPv6
	var link, name string
	switch c.Carrier {
	case NoCarrier:
		return nil
	case XFRMInterface:
		name = "ipsec0"
		link = fmt.Sprintf("link add ipsec0 type xfrm dev wan0 if_id 0x%x", c.IfID)
	case VTI:
		name = "vti0"
		link = fmt.Sprintf("link add vti0 type %s local %s remote %s key %d", pick(v6, "vti6", "vti"), us, peer, c.Mark.Value)
	case GRE:
		name = "gre1"
		link = fmt.Sprintf("link add gre1 type %s local %s remote %s", pick(v6, "ip6gre", "gre"), us, peer)
	}
	return []string{
		link, "link set " + name + " up",
		fmt.Sprintf("route replace %s dev %s", n.Peer(gateway).InnerNet(c.Inner), name),
	}
}

func pick(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}
