// Package device finds the interfaces of this host that belong to tunnels: xfrm
// interfaces, VTIs, and overlay devices whose carrier packets a tunnel protects; and
// the uplinks by which peers are reached.
package device

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Overlay is a device of this host that unwraps packets which a tunnel protects.
// The inner packets have lost the security path (skb_scrub_packet), so no policy
// match holds on them. The mark of the carrier packet remains.
type Overlay struct {
	Tunnel string
	// Devices are the device itself, then the bridges and VRFs above it: its packets
	// appear on them once more.
	Devices []string
	// VTI is true for a VTI. Its packets come straight out of ESP and carry TAG;
	// those of other devices carry the VERIFIED of their carrier.
	VTI bool
	// Proto, Port, Local and Remote match the carrier packets, from Remote to Local.
	// They are zero for a VTI.
	Proto         xfrm.Proto
	Port          uint16
	Local, Remote netip.Addr
	// Below are the devices of the overlay that carries this one's carrier, such as
	// GRE below VXLAN; nil where the tunnel itself carries it.
	Below []string
}

// Overlays finds the devices on which decapsulated tunnel traffic appears.
func Overlays(set xfrm.Set, host xfrm.Host) []Overlay {
	var found []Overlay
	for _, l := range host.Links {
		switch l.Kind {
		case "vti", "vti6":
			if i := vtiTunnel(set, l); i >= 0 {
				found = append(found, Overlay{Tunnel: set.Tunnels[i].ID, Devices: WithMasters(host, l), VTI: true})
			}
		default:
			proto, port, ok := carrier(l)
			if !ok || !l.Remote.IsValid() || l.Remote.IsUnspecified() {
				continue
			}
			if i, local, ok := carrierTunnel(set, host, l, proto, port); ok {
				found = append(found, Overlay{
					Tunnel: set.Tunnels[i].ID, Devices: WithMasters(host, l),
					Proto: proto, Port: port, Local: local, Remote: l.Remote,
				})
			}
		}
	}
	found = stacked(found, set, host)
	slices.SortFunc(found, func(a, b Overlay) int { return cmp.Compare(a.Devices[0], b.Devices[0]) })
	return found
}

// stacked adds the devices whose carrier packets go into an overlay's device, or
// into an xfrm interface, out of which they come with the policy match.
func stacked(found []Overlay, set xfrm.Set, host xfrm.Host) []Overlay {
	interfaces := Interfaces(set, host)
	known := make(map[string]Overlay, len(found))
	for _, o := range found {
		known[o.Devices[0]] = o
	}
	for again := len(found)+len(interfaces) > 0; again; {
		again = false
		for _, l := range host.Links {
			proto, port, ok := carrier(l)
			if _, done := known[l.Name]; done || !ok || !xfrm.Specified(l.Remote) || !xfrm.Specified(l.Local) {
				continue
			}
			under := underlay(host, l)
			below, ok := known[under]
			i, isInterface := interfaces[under]
			if !ok && !isInterface {
				continue
			}
			o := Overlay{
				Tunnel: below.Tunnel, Devices: WithMasters(host, l),
				Proto: proto, Port: port, Local: l.Local, Remote: l.Remote, Below: below.Devices,
			}
			if isInterface {
				o.Tunnel = set.Tunnels[i].ID
			}
			known[l.Name], found, again = o, append(found, o), true
		}
	}
	return found
}

// underlay names the device that a device's carrier packets go into: the one
// that it is bound to, or that of the best route to its other end.
func underlay(host xfrm.Host, l xfrm.Link) string {
	index, bits := l.Parent, -1
	if index == 0 {
		for _, r := range host.Routes {
			if r.Dst.Contains(l.Remote) && r.Dst.Bits() > bits {
				index, bits = r.Link, r.Dst.Bits()
			}
		}
	}
	below, _ := host.Link(index)
	return below.Name
}

// carrier tells which protocol, and which UDP port, carries a device's packets.
func carrier(l xfrm.Link) (proto xfrm.Proto, port uint16, ok bool) {
	switch l.Kind {
	case "gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan":
		return xfrm.GRE, 0, true
	case "ipip":
		return xfrm.IPIP, 0, true
	case "sit":
		return xfrm.IPv6in, 0, true
	case "vxlan", "geneve":
		return xfrm.UDP, l.Port, l.Port != 0
	case "l2tp":
		if l.Port == 0 {
			return xfrm.L2TP, 0, true
		}
		return xfrm.UDP, l.Port, true
	}
	return 0, 0, false
}

// carrierTunnel finds the tunnel that protects a device's carrier packets: the
// one whose policy the kernel would choose for them, or the most specific where
// priorities are equal.
func carrierTunnel(set xfrm.Set, host xfrm.Host, l xfrm.Link, proto xfrm.Proto, port uint16) (int, netip.Addr, bool) {
	best, at, local := xfrm.Pair{}, -1, netip.Addr{}
	for i, t := range set.Tunnels {
		for _, p := range t.Pairs {
			own, ok := carries(p, host, l, proto, port)
			if !ok || at >= 0 && cmp.Or(cmp.Compare(p.Priority, best.Priority),
				cmp.Compare(best.Remote.Bits(), p.Remote.Bits()), cmp.Compare(best.Local.Bits(), p.Local.Bits())) >= 0 {
				continue
			}
			best, at, local = p, i, own
		}
	}
	return at, local, at >= 0
}

// carries reports whether a pair covers a device's carrier packets, and from
// which address of this host they go. Pairs of an interface of their own don't.
func carries(p xfrm.Pair, host xfrm.Host, l xfrm.Link, proto xfrm.Proto, port uint16) (netip.Addr, bool) {
	if p.IfID != 0 || p.Mark.Mask != 0 || p.Proto != 0 && p.Proto != proto || !p.Remote.Contains(l.Remote) {
		return netip.Addr{}, false
	}
	if lo, hi, ok := p.LocalPort.Range(); ok && !p.LocalPort.Any() && (port < lo || port > hi) {
		return netip.Addr{}, false
	}
	if xfrm.Specified(l.Local) {
		return l.Local, p.Local.Contains(l.Local)
	}
	return p.Local.Addr(), p.Local.IsSingleIP() && host.Owns(p.Local.Addr())
}

// vtiTunnel finds the tunnel whose policies a VTI's key selects.
func vtiTunnel(set xfrm.Set, l xfrm.Link) int {
	return slices.IndexFunc(set.Tunnels, func(t xfrm.Tunnel) bool {
		return slices.ContainsFunc(t.Pairs, func(p xfrm.Pair) bool {
			return hasKey(p, l)
		})
	})
}

// Interfaces returns the xfrm interfaces whose if_id some pair has, and the
// tunnel's index. Their packets keep the policy match on the way in; on the way
// out they show none on the first pass, which is through the device.
func Interfaces(set xfrm.Set, host xfrm.Host) map[string]int {
	found := make(map[string]int)
	for _, l := range host.Links {
		if l.Kind != "xfrm" || l.IfID == 0 {
			continue
		}
		for i, t := range set.Tunnels {
			if slices.ContainsFunc(t.Pairs, func(p xfrm.Pair) bool { return p.IfID == l.IfID }) {
				found[l.Name] = i
				break
			}
		}
	}
	return found
}
