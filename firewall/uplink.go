package firewall

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// uplinks returns the interfaces where strangers come in: the configured WAN
// interfaces, else those of routes to the whole address space or its halves.
func (d *decider) uplinks() []string {
	if len(d.Config.WAN) > 0 {
		return d.Config.WAN
	}
	if d.defaultLinks == nil {
		d.defaultLinks = []string{}
		for _, r := range d.Host.Routes {
			l, ok := d.Host.Link(r.Link)
			if r.Dst.Bits() > 1 || !ok || l.Name == "lo" || d.isTunnelDevice(l.Name) {
				continue
			}
			d.defaultLinks = append(d.defaultLinks, withMasters(d.Host, l)...)
		}
		slices.Sort(d.defaultLinks)
		d.defaultLinks = slices.Compact(d.defaultLinks)
	}
	return d.defaultLinks
}

// withMasterNames adds to interfaces the bridges, bonds and VRFs that they are ports of:
// a packet of a port shows its master in INPUT and FORWARD.
func withMasterNames(names []string, host xfrm.Host) []string {
	all := slices.Clone(names)
	for _, l := range host.Links {
		if !slices.Contains(names, l.Name) {
			continue
		}
		for _, name := range withMasters(host, l)[1:] {
			if !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
	}
	return all
}
