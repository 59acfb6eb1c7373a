package device

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Uplinks names the interfaces by which a tunnel's peer is reached, where
// strangers come in too: the configured ones, or those of the best route to the
// peer, and those of the default routes: a host with two Uplinks has strangers
// behind both.
func Uplinks(t xfrm.Tunnel, host xfrm.Host, wan []string) []string {
	if len(wan) > 0 {
		return wan
	}
	best := 0
	for _, r := range host.Routes {
		if xfrm.Specified(t.Remote) && r.Dst.Contains(t.Remote) {
			best = max(best, r.Dst.Bits())
		}
	}
	var names []string
	for _, r := range host.Routes {
		if r.Dst.Bits() != 0 && (r.Dst.Bits() != best || !r.Dst.Contains(t.Remote)) {
			continue
		}
		if l, ok := host.Link(r.Link); ok && l.Name != "lo" && l.Kind != "xfrm" && l.Kind != "vti" && l.Kind != "vti6" {
			names = append(names, l.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
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
