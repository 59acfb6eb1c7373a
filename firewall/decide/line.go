package decide

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// noteLine adds the part of a network that a guard is about and to which it gave way on an
// interface. An uplink is no line.
func (d *decider) noteLine(g *guard.Guard, n firewall.Network) {
	line := guard.Line{Network: n.Prefix.Masked(), Device: n.Device}
	if g.Remote.Bits() > n.Prefix.Bits() {
		line.Network = g.Remote.Masked()
	}
	at, known := slices.BinarySearchFunc(d.facts.Lines, line, guard.Line.Compare)
	if !known && d.isLine(n.Device) {
		d.facts.Lines = slices.Insert(d.facts.Lines, at, line)
	}
}

// isLine reports whether an interface may be a second line to a tunnel's network: one that
// is there, carries no tunnel, and by which no stranger comes in.
func (d *decider) isLine(name string) bool {
	l, ok := d.links.Link(name)
	return ok && name != "lo" && !d.isTunnelDevice(name) && !d.leadsOutside(l)
}

// linesIn returns the remembered lines to networks that overlap a remote selector.
func (d *decider) linesIn(remote netip.Prefix) []firewall.Network {
	if len(d.Lines) == 0 {
		return nil
	}
	if d.lines == nil {
		d.lines = prefix.NewIndex(len(d.Lines), func(i int) netip.Prefix { return d.Lines[i].Network })
	}
	var networks []firewall.Network
	for _, i := range d.lines.Overlapping(remote) {
		if l := &d.Lines[i]; d.isLine(l.Device) {
			networks = append(networks, firewall.Network{Prefix: l.Network, Device: l.Device})
		}
	}
	return networks
}

// routedBefore returns the networks that were routed into the device of a tunnel. A
// routing protocol moves a network to another line and back faster than rules follow it,
// and the peer goes on sending from there. A network that leads to another tunnel now has
// become that one's.
func (d *decider) routedBefore(t *xfrm.Tunnel) []netip.Prefix {
	if d.movedFrom == nil {
		d.movedFrom = make(map[string][]netip.Prefix)
		for i := range d.Guards {
			if g := &d.Guards[i]; g.Source == guard.FromMemory && g.Routed {
				d.movedFrom[g.Tunnel] = append(d.movedFrom[g.Tunnel], g.Remote)
			}
		}
	}
	var networks []netip.Prefix
	for _, n := range d.movedFrom[t.ID] {
		if !d.leadsToAnother(t, n) {
			networks = append(networks, n)
		}
	}
	return networks
}

// routedToSite returns the prefixes that are routed into devices of other tunnels to a
// tunnel's site. The two ends of a site choose between its tunnels each for itself, so
// packets come out of one while the route leads into another.
func (d *decider) routedToSite(t *xfrm.Tunnel, family xfrm.Family) []netip.Prefix {
	if d.ofSite == nil {
		d.ofSite = make(map[string][]xfrm.Link)
		for i := range d.Set.Tunnels {
			o := &d.Set.Tunnels[i]
			if tc, _ := d.config(o); tc.Site != "" {
				for _, p := range o.Pairs {
					d.ofSite[tc.Site] = append(d.ofSite[tc.Site], d.links.LinksOf(p)...)
				}
			}
		}
	}
	tc, _ := d.config(t)
	return d.links.RoutedInto(d.ofSite[tc.Site], family)
}

// leadsToAnother reports whether a part of a network is routed into a device that is not a
// tunnel's, or selected by a pair of another tunnel.
func (d *decider) leadsToAnother(t *xfrm.Tunnel, network netip.Prefix) bool {
	for _, i := range d.routesIn(network) {
		r := &d.Host.Routes[i]
		l, ok := d.Host.Link(r.Link)
		if !ok || device.IsInternet(r.Dst) || !d.isTunnelDevice(l.Name) {
			continue
		}
		if own, _ := d.devicePairs(t, l); len(own) == 0 && !d.unwraps(t, l.Name) {
			return true
		}
	}
	if d.sites == nil {
		for i := range d.Set.Tunnels {
			for _, p := range d.Set.Tunnels[i].Pairs {
				if !isWideSelector(p.Remote) {
					d.siteTunnels = append(d.siteTunnels, tunnelPair{d.Set.Tunnels[i].ID, p})
				}
			}
		}
		d.sites = prefix.NewIndex(len(d.siteTunnels), func(i int) netip.Prefix { return d.siteTunnels[i].pair.Remote })
	}
	return slices.ContainsFunc(d.sites.Overlapping(network), func(i int) bool { return d.siteTunnels[i].tunnel != t.ID })
}
