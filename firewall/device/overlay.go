// Package device finds the interfaces of this host that belong to tunnels: xfrm
// interfaces, VTIs, and overlay devices with carrier packets that a tunnel protects. It
// also finds the uplinks by which peers are reached.
//
// It decides on no packet: package decide makes facts of the devices. It reads nothing
// either, because links and routes are values of an xfrm.Host.
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
	// Devices are the device itself, then the bridges, VRFs and VLANs above it: its
	// packets appear on them once more.
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
	pairs, marked := carriersOf(set), markedTunnels(set)
	for _, l := range host.Links {
		switch l.Kind {
		case "vti", "vti6":
			for _, i := range marked.of(set, l) {
				found = append(found, Overlay{Tunnel: set.Tunnels[i].ID, Devices: above(host, l), VTI: true})
			}
		default:
			proto, port, ok := Carrier(l)
			if !ok {
				continue
			}
			for _, remote := range pairs.peersOf(l) {
				at := l
				at.Remote = remote
				if i, local, ok := pairs.tunnel(host, at, proto, port); ok {
					found = append(found, Overlay{
						Tunnel: set.Tunnels[i].ID, Devices: above(host, l),
						Proto: proto, Port: port, Local: local, Remote: remote,
					})
				}
			}
		}
	}
	found = stacked(found, set, host)
	slices.SortStableFunc(found, func(a, b Overlay) int { return cmp.Compare(a.Devices[0], b.Devices[0]) })
	return found
}

// TakesAny reports whether a device takes carrier packets from any address: mGRE,
// multipoint VXLAN, and devices that other programs give a peer for each packet
// ("external").
func TakesAny(l xfrm.Link) bool {
	_, _, ok := Carrier(l)
	return ok && (!xfrm.Specified(l.Remote) || l.Remote.IsMulticast())
}

// IsCarried reports whether a device's packets are carried in those of another protocol.
func IsCarried(l xfrm.Link) bool {
	_, _, ok := Carrier(l)
	return ok || l.Kind == "vlan"
}

// carriers are the pairs with packets that may be carriers, by the host at their other
// end.
type carriers struct {
	// peers are the hosts, in the order of the tunnels.
	peers []netip.Addr
	hosts map[netip.Addr][]carrier
	// networks are the pairs of which the other end is more than a host.
	networks []carrier
}

// carrier is a pair and the place of its tunnel.
type carrier struct {
	tunnel int
	pair   *xfrm.Pair
}

func carriersOf(set xfrm.Set) carriers {
	c := carriers{hosts: make(map[netip.Addr][]carrier)}
	for i := range set.Tunnels {
		for j := range set.Tunnels[i].Pairs {
			p := &set.Tunnels[i].Pairs[j]
			if !p.Remote.IsSingleIP() {
				c.networks = append(c.networks, carrier{i, p})
				continue
			}
			peer := p.Remote.Addr()
			if c.hosts[peer] == nil {
				c.peers = append(c.peers, peer)
			}
			c.hosts[peer] = append(c.hosts[peer], carrier{i, p})
		}
	}
	return c
}

// peersOf returns the addresses that carrier packets of a device come from: its own
// remote address, or where it takes any those of the hosts to which there is a tunnel.
func (c *carriers) peersOf(l xfrm.Link) []netip.Addr {
	if !TakesAny(l) {
		return []netip.Addr{l.Remote}
	}
	return c.peers
}

// stacked adds the devices that send their carrier packets into an overlay's device, or
// into an xfrm interface. Packets come out of an xfrm interface with the policy match.
func stacked(found []Overlay, set xfrm.Set, host xfrm.Host) []Overlay {
	interfaces := Interfaces(set, host)
	known := make(map[string]Overlay, len(found))
	for _, o := range found {
		known[o.Devices[0]] = o
	}
	for again := len(found)+len(interfaces) > 0; again; {
		again = false
		for _, l := range host.Links {
			proto, port, ok := Carrier(l)
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
				Tunnel: below.Tunnel, Devices: above(host, l),
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

// Carrier tells which protocol, and which UDP port, carries a device's packets.
func Carrier(l xfrm.Link) (proto xfrm.Proto, port uint16, ok bool) {
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

// tunnel finds the tunnel that protects a device's carrier packets as they come in. It is
// the tunnel of the policy that the kernel would choose for them, or of the most specific
// one where priorities are equal. A pair without a port of the peer's goes before one
// with it. The latter is another direction's, because a device chooses the source port of
// UDP by the inner flow.
func (c *carriers) tunnel(host xfrm.Host, l xfrm.Link, proto xfrm.Proto, port uint16) (int, netip.Addr, bool) {
	var best *xfrm.Pair
	at, local := -1, netip.Addr{}
	for _, list := range [][]carrier{c.hosts[l.Remote], c.networks} {
		for _, e := range list {
			p := e.pair
			own, ok := carries(p, host, l, proto, port)
			if !ok || best != nil && cmp.Or(cmp.Compare(peerPort(p), peerPort(best)), cmp.Compare(p.Priority, best.Priority),
				cmp.Compare(best.Remote.Bits(), p.Remote.Bits()), cmp.Compare(best.Local.Bits(), p.Local.Bits())) >= 0 {
				continue
			}
			best, at, local = p, e.tunnel, own
		}
	}
	return at, local, at >= 0
}

// peerPort is 1 for a pair that names a port of the peer's, else 0.
func peerPort(p *xfrm.Pair) int {
	if p.RemotePort.Any() {
		return 0
	}
	return 1
}

// carries reports whether a pair covers a device's carrier packets, and from
// which address of this host they go. Pairs of an interface of their own don't.
func carries(p *xfrm.Pair, host xfrm.Host, l xfrm.Link, proto xfrm.Proto, port uint16) (netip.Addr, bool) {
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

// marked are the places of the tunnels with policies that marks select, by the mark where
// it is a whole one.
type marked struct {
	whole map[uint32][]int
	other []int
}

func markedTunnels(set xfrm.Set) marked {
	m := marked{whole: make(map[uint32][]int)}
	for i := range set.Tunnels {
		for _, p := range set.Tunnels[i].Pairs {
			switch p.Mark.Mask {
			case 0:
			case 1<<32 - 1:
				m.whole[p.Mark.Value] = append(m.whole[p.Mark.Value], i)
			default:
				m.other = append(m.other, i)
			}
		}
	}
	return m
}

// of finds the tunnels with policies that a VTI's key selects. A VTI without a remote
// address may have several, and so may VTIs with one key: there the remote address of the
// device tells.
func (m marked) of(set xfrm.Set, l xfrm.Link) []int {
	places := slices.Concat(m.whole[l.IKey], m.whole[l.OKey], m.other)
	slices.Sort(places)
	var all, own []int
	for _, i := range slices.Compact(places) {
		t := &set.Tunnels[i]
		if !slices.ContainsFunc(t.Pairs, func(p xfrm.Pair) bool { return hasKey(p, l) }) {
			continue
		}
		all = append(all, i)
		if !xfrm.Specified(l.Remote) || !xfrm.Specified(t.Remote) || t.Remote == l.Remote {
			own = append(own, i)
		}
	}
	if len(own) > 0 {
		return own
	}
	return all
}

// above returns the link's name and those of the devices on which its packets
// appear once more: its masters, and the VLANs above it and above them.
func above(host xfrm.Host, l xfrm.Link) []string {
	names := WithMasters(host, l)
	for i := 0; i < len(names); i++ {
		for _, vlan := range host.Links {
			if vlan.Kind != "vlan" {
				continue
			}
			if below, ok := host.Link(vlan.Parent); !ok || below.Name != names[i] {
				continue
			}
			for _, name := range WithMasters(host, vlan) {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// Interfaces returns the xfrm interfaces with the if_id of some pair, and the tunnel's
// index. Their packets keep the policy match on the way in; on the way out they show none
// on the first pass, which is through the device.
func Interfaces(set xfrm.Set, host xfrm.Host) map[string]int {
	tunnels := make(map[uint32]int)
	for i := range set.Tunnels {
		for j := range set.Tunnels[i].Pairs {
			id := set.Tunnels[i].Pairs[j].IfID
			if _, ok := tunnels[id]; !ok && id != 0 {
				tunnels[id] = i
			}
		}
	}
	found := make(map[string]int)
	for i := range host.Links {
		l := &host.Links[i]
		if tunnel, ok := tunnels[l.IfID]; ok && l.Kind == "xfrm" {
			found[l.Name] = tunnel
		}
	}
	return found
}
