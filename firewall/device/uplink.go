package device

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Uplinks names the interfaces by which a tunnel's peer is reached, where
// strangers come in too: the configured ones, or those of the best route to the
// peer, and those of routes to the internet: a host with two uplinks has
// strangers behind both.
func (x *Index) Uplinks(peer netip.Addr, wan []string) []string {
	if len(wan) > 0 {
		return wan
	}
	if x.ways == nil {
		x.ways = prefix.NewIndex(len(x.host.Routes), func(i int) netip.Prefix { return x.host.Routes[i].Dst })
		for i := range x.host.Routes {
			if r := &x.host.Routes[i]; IsInternet(r.Dst) {
				x.internet = append(x.internet, i)
			}
		}
	}
	places := slices.Clone(x.internet)
	if xfrm.Specified(peer) {
		best := 0
		var ways []int
		for _, i := range x.ways.Overlapping(prefix.Single(peer)) {
			switch bits := x.host.Routes[i].Dst.Bits(); {
			case bits > best:
				best, ways = bits, []int{i}
			case bits == best && best > 0:
				ways = append(ways, i)
			}
		}
		places = append(places, ways...)
	}
	var names []string
	for _, i := range places {
		if l, ok := x.host.Link(x.host.Routes[i].Link); ok && l.Name != "lo" && l.Kind != "xfrm" && !IsVTI(l) {
			names = append(names, l.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// IsInternet reports whether a route is one to the internet: to the whole address space, its
// halves, or 2000::/3, which are all global addresses of IPv6 (RFC 4291, 2.4). fc00::/7 is
// a site's own (RFC 4193).
func IsInternet(route netip.Prefix) bool {
	return route.Bits() < 8 && (route.Addr().Is4() || route.Bits() < 7)
}

// WithMasters returns the link's name and those of its masters, lowest first.
func WithMasters(host xfrm.Host, l xfrm.Link) []string {
	names := []string{l.Name}
	for l.Master != 0 && len(names) < 8 {
		above, ok := host.Link(l.Master)
		if !ok {
			break
		}
		names = append(names, above.Name)
		l = above
	}
	return names
}

// WithMasterNames adds to interfaces the bridges, bonds and VRFs that they are ports of:
// a packet of a port shows its master in INPUT and FORWARD.
func WithMasterNames(names []string, host xfrm.Host) []string {
	all := slices.Clone(names)
	for _, l := range host.Links {
		if !slices.Contains(names, l.Name) {
			continue
		}
		for _, name := range WithMasters(host, l)[1:] {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return all
}
