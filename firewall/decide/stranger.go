package decide

import (
	"cmp"
	"maps"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// devices adds the interfaces into which only tunnel traffic goes: xfrm interfaces
// and overlay devices. A bridge or VRF above an overlay has other ports, so it is not
// among them.
func (d *decider) devices() {
	add := func(name string, t *xfrm.Tunnel, isXfrm bool) {
		tc, _ := d.config(t)
		d.facts.Devices = append(d.facts.Devices, firewall.Device{Name: name, Tunnel: t.ID, Xfrm: isXfrm, KeepNAT: tc.KeepNAT})
	}
	for name, i := range d.interfaces {
		add(name, &d.Set.Tunnels[i], true)
	}
	for _, o := range d.facts.Overlays {
		if _, ok := d.interfaces[o.Devices[0]]; !ok {
			for _, l := range d.links.OwnLinks(&o.Overlay) {
				add(l.Name, d.tunnelOf(o.Tunnel), false)
			}
		}
	}
	slices.SortFunc(d.facts.Devices, func(a, b firewall.Device) int { return cmp.Compare(a.Name, b.Name) })
	d.facts.Devices = slices.CompactFunc(d.facts.Devices, func(a, b firewall.Device) bool { return a.Name == b.Name })
}

// tunnelOf returns the tunnel of the set with that ID.
func (d *decider) tunnelOf(id string) *xfrm.Tunnel {
	if d.tunnels == nil {
		d.tunnels = make(map[string]int, len(d.Set.Tunnels))
		for i := range d.Set.Tunnels {
			d.tunnels[d.Set.Tunnels[i].ID] = i
		}
	}
	return &d.Set.Tunnels[d.tunnels[id]]
}

// strangers adds the new flows that must not enter a tunnel which takes any source:
// the kernel would encrypt a stranger's packets.
func (d *decider) strangers() {
	add := func(t *xfrm.Tunnel, s firewall.Stranger) {
		s.Tunnel = t.ID
		for _, name := range d.links.Uplinks(t.Remote, d.Config.WAN) {
			s.In = name
			d.facts.Strangers = append(d.facts.Strangers, s)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.interfaces)) {
		add(&d.Set.Tunnels[d.interfaces[name]], firewall.Stranger{Out: name})
	}
	for _, o := range d.facts.Overlays {
		for _, l := range d.links.OwnLinks(&o.Overlay) {
			add(d.tunnelOf(o.Tunnel), firewall.Stranger{Out: l.Name})
		}
	}
	for i := range d.Set.Tunnels {
		t := &d.Set.Tunnels[i]
		for _, p := range t.Pairs {
			if isWideSelector(p.Local) && p.IfID == 0 && p.Has(xfrm.Out) {
				add(t, firewall.Stranger{Remote: p.Remote})
			}
		}
	}
}
