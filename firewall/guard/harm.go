package guard

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// hasPeer reports whether a peer's outer address lies in a prefix.
func (m *memorizer) hasPeer(p netip.Prefix) bool {
	at, _ := slices.BinarySearchFunc(m.peers, p.Masked().Addr(), netip.Addr.Compare)
	return at < len(m.peers) && p.Contains(m.peers[at])
}

// lasting reports whether a pair is a site's, and not a lease or the whole internet.
func (m *memorizer) lasting(g *Guard, t *xfrm.Tunnel) bool {
	if g.Remote.Bits() == 0 || Unfit(g.Pair()) != "" {
		return false
	}
	// A single address inside a tunnel is a road warrior's lease, which another peer may
	// get tomorrow. The peer's own address is not.
	return !g.Remote.IsSingleIP() || t.Mode == xfrm.TransportMode || g.Remote.Addr() == t.Remote
}

// harm names the network that a guard alone, without its tunnel, would cut this host from, or
// nothing. Of the connected networks that the remote selector covers it cuts none:
// they are exempt on their own interface, as they are at that time.
func (m *memorizer) harm(g *Guard, t *xfrm.Tunnel) string {
	// A pair remembered before a peer came up inside it, with packets through
	// this tunnel, say, is seen again all the same: no peer takes a guard away.
	if !g.Remote.IsSingleIP() && m.hasPeer(g.Remote) {
		if _, ok := m.held[g.key()]; !ok {
			return "a tunnel's peer lies in it"
		}
	}
	for _, r := range m.host.Resolvers {
		if asks(g) && g.Remote.Contains(r) && !m.connected(r, g.Remote) {
			return "the name server " + r.String() + " lies in it"
		}
	}
	for _, i := range m.addresses.Overlapping(g.Remote) {
		a := m.host.Addresses[i].Prefix
		if g.Remote.Bits() > a.Bits() {
			return "this host's address " + a.Addr().String() + " lies in it"
		}
	}
	for _, i := range m.routers.Overlapping(g.Remote) {
		if via := m.host.Routes[i].Via; reportsErrors(g) && !m.connected(via, g.Remote) {
			return "the router " + via.String() + " lies in it"
		}
	}
	var uplink []string
	for _, i := range m.routes.Overlapping(g.Remote) {
		r := &m.host.Routes[i]
		// A network that lies behind another interface of this host is not the
		// peer's to claim.
		if r.Dst.Bits() == 0 || r.Connected && g.Remote.Bits() <= r.Dst.Bits() {
			continue
		}
		if uplink == nil {
			uplink = append(m.uplinks(t), "lo")
		}
		if l, ok := m.host.Link(r.Link); ok && !(g.Routed && device.IsCarried(l)) && l.Kind != "xfrm" && l.Kind != "vti" && l.Kind != "vti6" && !slices.Contains(uplink, l.Name) {
			return "this host's route to " + r.Dst.String() + " by " + l.Name + " lies in it"
		}
	}
	return ""
}

// reportsErrors reports whether a pair covers the ICMP errors of a router. A pair of
// another protocol can't cut a router off, because it forwards packets that are not sent
// to its own address.
func reportsErrors(g *Guard) bool {
	return g.Proto == 0 || g.Proto == xfrm.ICMP || g.Proto == xfrm.ICMPv6
}

// asks reports whether a pair covers queries to a name server.
func asks(g *Guard) bool {
	return g.Proto == 0 || (g.Proto == xfrm.UDP || g.Proto == xfrm.TCP) && (g.RemotePort.Port^domain)&g.RemotePort.Mask == 0
}

// domain is the port of DNS.
const domain = 53

// connected reports whether an address is on a connected network that a prefix
// covers.
func (m *memorizer) connected(a netip.Addr, covering netip.Prefix) bool {
	return slices.ContainsFunc(m.networks.Overlapping(prefix.Single(a)), func(i int) bool {
		p := m.host.Addresses[i].Prefix
		return !p.IsSingleIP() && covering.Bits() <= p.Bits()
	})
}

// look makes the indexes of the host, so that many pairs do not meet all of its routes.
func (m *memorizer) look() {
	addresses, routes := m.host.Addresses, m.host.Routes
	m.addresses = prefix.NewIndex(len(addresses), func(i int) netip.Prefix { return prefix.Single(addresses[i].Prefix.Addr()) })
	m.networks = prefix.NewIndex(len(addresses), func(i int) netip.Prefix { return addresses[i].Prefix })
	m.routes = prefix.NewIndex(len(routes), func(i int) netip.Prefix { return routes[i].Dst })
	m.routers = prefix.NewIndex(len(routes), func(i int) netip.Prefix {
		if !routes[i].Via.IsValid() {
			return netip.Prefix{}
		}
		return prefix.Single(routes[i].Via)
	})
	m.links = device.NewIndex(m.host)
}

// uplinks are the interfaces by which a tunnel's peer is reached.
func (m *memorizer) uplinks(t *xfrm.Tunnel) []string {
	return slices.Clip(m.links.Uplinks(t.Remote, nil))
}
