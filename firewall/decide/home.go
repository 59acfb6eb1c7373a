package decide

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// connectedNetworks lists the networks of this host's interfaces. Tunnel devices and
// single addresses are left out.
func connectedNetworks(host xfrm.Host, isTunnelDevice func(string) bool) []firewall.Network {
	var networks []firewall.Network
	for _, a := range host.Addresses {
		l, ok := host.Link(a.Link)
		if !ok || l.Name == "lo" || a.Prefix.IsSingleIP() || a.Prefix.Bits() == 0 || isTunnelDevice(l.Name) || guard.NeverJudged(a.Prefix.Addr()) {
			continue
		}
		// A packet of a VRF's or bridge's port shows the master too.
		for _, name := range device.WithMasters(host, l) {
			if n := (firewall.Network{Prefix: a.Prefix.Masked(), Device: name}); !slices.Contains(networks, n) {
				networks = append(networks, n)
			}
		}
	}
	return networks
}

// homes returns the parts of local selectors that routes lead to, each with its
// interfaces. Networks reached only by a route to the internet are skipped. So are networks
// behind a tunnel: their packets are checked by SA.
func (d *decider) homes() []firewall.Network {
	remotes := make(map[netip.Prefix]bool, len(d.facts.Guards))
	for i := range d.facts.Guards {
		remotes[d.facts.Guards[i].Remote.Masked()] = true
	}
	locals := make(map[netip.Prefix]bool)
	var last netip.Prefix
	for i := range d.facts.Guards {
		if g := &d.facts.Guards[i]; !g.Exception && g.Local != last && !isWideSelector(g.Local) && !remotes[g.Local] {
			locals[g.Local] = true
			last = g.Local
		}
	}
	isLocal := func(p netip.Prefix) bool { return locals[p] }
	routes := make(map[netip.Prefix][]string)
	var homes []firewall.Network
	for _, r := range d.Host.Routes {
		l, ok := d.Host.Link(r.Link)
		if !ok || device.IsInternet(r.Dst) || l.Name == "lo" || d.isTunnelDevice(l.Name) {
			continue
		}
		dst := r.Dst.Masked()
		// A packet of a VRF's port shows the VRF in FORWARD.
		names := device.WithMasters(d.Host, l)
		routes[dst] = append(routes[dst], names...)
		if _, ok := prefix.Covering(dst, isLocal); ok {
			for _, name := range names {
				homes = append(homes, firewall.Network{Prefix: dst, Device: name})
			}
		}
	}
	for local := range locals {
		above, ok := prefix.Covering(local, func(p netip.Prefix) bool { return p != local && len(routes[p]) > 0 })
		if !ok || len(routes[local]) > 0 {
			continue
		}
		for _, name := range routes[above] {
			homes = append(homes, firewall.Network{Prefix: local, Device: name})
		}
	}
	slices.SortFunc(homes, func(x, y firewall.Network) int {
		return cmp.Or(cmp.Compare(y.Prefix.Bits(), x.Prefix.Bits()), xfrm.ComparePrefix(x.Prefix, y.Prefix), cmp.Compare(x.Device, y.Device))
	})
	return slices.Compact(homes)
}

// inside returns the widest of the homes behind each interface that does not lead outside.
func (d *decider) inside() []firewall.Network {
	var inside []firewall.Network
	for _, h := range slices.Backward(d.facts.Homes) { // the widest first
		l, ok := d.links.Link(h.Device)
		if !ok || d.leadsOutside(l) {
			continue
		}
		if !slices.ContainsFunc(inside, func(n firewall.Network) bool { return n.Device == h.Device && n.Prefix.Contains(h.Prefix.Addr()) }) {
			inside = append(inside, h)
		}
	}
	slices.Reverse(inside)
	return inside
}

// isWideSelector reports whether a local selector is wider than a site's network.
// The halves of the whole address space count like the whole.
func isWideSelector(p netip.Prefix) bool { return p.Bits() < 8 }
