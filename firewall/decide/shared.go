package decide

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// intoShared returns the ways into a tunnel by an overlay device with carriers of several
// tunnels, such as mGRE. No rule knows the peer that the device sends a packet to, so
// remote: tells, and a tunnel without it is held to its limits for the whole device. A
// packet to no tunnel's remote: is beyond each cap.
func (d *decider) intoShared(t *xfrm.Tunnel, name string) []firewall.Into {
	tc, _ := d.config(t)
	if tc.Remote == nil {
		return []firewall.Into{{Device: name}}
	}
	var all []firewall.Into
	for _, p := range tc.Remote {
		all = append(all, firewall.Into{Device: name, Remote: p.Masked()})
	}
	sharers := d.sharers(name)
	if sharers[0] != t.ID {
		return all
	}
	var told []netip.Prefix
	for _, id := range sharers {
		c, _ := d.config(d.tunnelOf(id))
		if c.Remote == nil {
			return all
		}
		told = append(told, c.Remote...)
	}
	for _, everything := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
		beyond := firewall.Into{Device: name, Remote: everything}
		for _, p := range told {
			if p = p.Masked(); everything.Contains(p.Addr()) && !slices.Contains(beyond.Except, p) {
				beyond.Except = append(beyond.Except, p)
			}
		}
		all = append(all, beyond)
	}
	return all
}

// untold warns of a tunnel with limits that hold for others too.
func (d *decider) untold(t *xfrm.Tunnel, tc firewall.TunnelConfig) {
	if tc.In == nil && tc.Out == nil || tc.Remote != nil {
		return
	}
	for _, into := range d.facts.Devices {
		if l, _ := d.links.Link(into.Name); !into.Xfrm && !device.IsVTI(l) && len(d.sharers(into.Name)) > 1 && d.unwraps(t, into.Name) {
			d.facts.Warnings = append(d.facts.Warnings, fmt.Sprintf(
				"tunnel %s: its in: and out: hold for all packets of %s, which other tunnels share: write remote: with the networks behind it and its peer's address", t.ID, into.Name))
		}
	}
}

// sharers returns the IDs of the tunnels that protect an overlay device's carriers, in
// order.
func (d *decider) sharers(name string) []string {
	if d.sharing == nil {
		d.sharing = make(map[string][]string)
		for i := range d.facts.Overlays {
			o := &d.facts.Overlays[i]
			for _, l := range d.links.OwnLinks(&o.Overlay) {
				d.sharing[l.Name] = append(d.sharing[l.Name], o.Tunnel)
			}
		}
		for name, tunnels := range d.sharing {
			slices.Sort(tunnels)
			d.sharing[name] = slices.Compact(tunnels)
		}
	}
	return d.sharing[name]
}

// unwraps reports whether a device unwraps packets that a tunnel protects.
func (d *decider) unwraps(t *xfrm.Tunnel, name string) bool {
	_, ok := slices.BinarySearch(d.sharers(name), t.ID)
	return ok
}
