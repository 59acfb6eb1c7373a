package guard

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/device"
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
	// A single address inside a tunnel is a road warrior's lease, which somebody
	// else may have tomorrow. The peer's own address is not.
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
		if g.Remote.Contains(r) && !m.connected(r, g.Remote) {
			return "the name server " + r.String() + " lies in it"
		}
	}
	for _, a := range m.host.Addresses {
		network := a.Prefix.Masked()
		if g.Remote.Bits() > network.Bits() && g.Remote.Contains(a.Prefix.Addr()) {
			return "this host's address " + a.Prefix.Addr().String() + " lies in it"
		}
	}
	var uplink []string
	for _, r := range m.host.Routes {
		if r.Via.IsValid() && g.Remote.Contains(r.Via) && !m.connected(r.Via, g.Remote) {
			return "the router " + r.Via.String() + " lies in it"
		}
		// A network that lies behind another interface of this host is not the
		// peer's to claim.
		if r.Dst.Bits() == 0 || !r.Dst.Overlaps(g.Remote) || r.Connected && g.Remote.Bits() <= r.Dst.Bits() {
			continue
		}
		if uplink == nil {
			uplink = append(device.Uplinks(*t, m.host, nil), "lo")
		}
		if l, ok := m.host.Link(r.Link); ok && !(g.Routed && device.IsCarried(l)) && l.Kind != "xfrm" && l.Kind != "vti" && l.Kind != "vti6" && !slices.Contains(uplink, l.Name) {
			return "this host's route to " + r.Dst.String() + " by " + l.Name + " lies in it"
		}
	}
	return ""
}

// connected reports whether an address is on a connected network that a prefix
// covers.
func (m *memorizer) connected(a netip.Addr, covering netip.Prefix) bool {
	for i := range m.host.Addresses {
		if p := m.host.Addresses[i].Prefix; p.Contains(a) && !p.IsSingleIP() && covering.Bits() <= p.Bits() {
			return true
		}
	}
	return false
}
