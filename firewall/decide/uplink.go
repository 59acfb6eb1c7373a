package decide

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// uplinks returns the interfaces where strangers come in: the configured WAN
// interfaces, else those of routes to the internet.
func (d *decider) uplinks() []string {
	if len(d.Config.WAN) > 0 {
		return d.Config.WAN
	}
	if d.defaultLinks == nil {
		d.defaultLinks = []string{}
		for _, r := range d.Host.Routes {
			l, ok := d.Host.Link(r.Link)
			if !device.IsInternet(r.Dst) || !ok || l.Name == "lo" || d.isTunnelDevice(l.Name) {
				continue
			}
			d.defaultLinks = append(d.defaultLinks, device.WithMasters(d.Host, l)...)
		}
		slices.Sort(d.defaultLinks)
		d.defaultLinks = slices.Compact(d.defaultLinks)
	}
	return d.defaultLinks
}

// behind finds the local selectors of which a part lives behind this gateway, and the
// networks that do (case 6b). Of such a selector only these networks are the LAN's: a
// packet with another source of it that comes in by an uplink is a stranger's, though
// the default route leads to its source.
//
// A selector without such a part is left alone, because its network may live behind
// the default route, as on a one-armed gateway or a cloud instance. The configuration's
// behind: turns the guard on there.
func (d *decider) behind() {
	d.facts.Uplinks = d.uplinks()
	inside := slices.Clone(d.Config.Behind)
	for _, a := range d.Host.Addresses {
		d.facts.Behind = append(d.facts.Behind, prefix.Single(a.Prefix.Addr()), a.Prefix.Masked())
	}
	for _, r := range d.Host.Routes {
		l, ok := d.Host.Link(r.Link)
		if device.IsInternet(r.Dst) || !ok || l.Name == "lo" || d.isTunnelDevice(l.Name) {
			continue
		}
		d.facts.Behind = append(d.facts.Behind, r.Dst.Masked())
		if !slices.Contains(d.facts.Uplinks, l.Name) {
			inside = append(inside, r.Dst.Masked())
		}
	}
	d.facts.Behind = append(d.facts.Behind, d.Config.Behind...)
	slices.SortFunc(d.facts.Behind, xfrm.ComparePrefix)
	d.facts.Behind = slices.Compact(d.facts.Behind)
	insideOf := prefix.NewIndex(len(inside), func(i int) netip.Prefix { return inside[i] })
	behind := make(map[netip.Prefix]bool, len(d.facts.Behind))
	for _, p := range d.facts.Behind {
		behind[p] = true
	}
	seen := make(map[netip.Prefix]bool)
	for i := range d.facts.Guards {
		g := &d.facts.Guards[i]
		if g.Exception || seen[g.Local] {
			continue
		}
		seen[g.Local] = true
		if !isWideSelector(g.Local) && insideOf.Within(g.Local) && !behind[g.Local] {
			d.facts.PartlyBehind = append(d.facts.PartlyBehind, g.Local)
		}
	}
	slices.SortFunc(d.facts.PartlyBehind, xfrm.ComparePrefix)
}
