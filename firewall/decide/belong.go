package decide

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// openDevices adds the devices that take carriers from any address, and names those
// that no tunnel is known to carry.
func (d *decider) openDevices() {
	for _, l := range d.Host.Links {
		if !device.TakesAny(l) {
			continue
		}
		open := firewall.OpenDevice{Name: l.Name}
		open.Proto, open.Port, _ = device.Carrier(l)
		if xfrm.Specified(l.Local) {
			open.Local = l.Local
		}
		switch {
		case slices.ContainsFunc(d.facts.Overlays, func(o firewall.Overlay) bool { return o.Devices[0] == l.Name }):
			d.facts.OpenDevices = append(d.facts.OpenDevices, open)
		case len(d.Set.Tunnels) > 0:
			d.facts.Ignored = append(d.facts.Ignored, xfrm.Ignored{
				Object: "device " + l.Name, Reason: "it takes packets from any peer, and no tunnel between two hosts carries them, so packets out of it are not verified",
			})
		}
	}
	slices.SortFunc(d.facts.OpenDevices, func(a, b firewall.OpenDevice) int { return cmp.Compare(a.Name, b.Name) })
}

// overlaySources finds the addresses that packets out of overlay devices may have: on
// a VTI those of the pairs that its key selects, as for claims; on other devices the
// configuration's remote: alone, because the pairs are those of the carriers.
func (d *decider) overlaySources() {
	for i := range d.facts.Overlays {
		o := &d.facts.Overlays[i]
		t := d.tunnelOf(o.Tunnel)
		tc, _ := d.config(t)
		if !o.VTI {
			o.Sources = tc.Remote
			continue
		}
		o.Sources = []netip.Prefix{} // nil is any
		for _, p := range t.Pairs {
			if !p.Has(xfrm.In) && !p.Has(xfrm.Fwd) || p.Mark.Mask == 0 {
				continue
			}
			for _, remote := range d.claimable(t, p, tc.Remote) {
				if !slices.Contains(o.Sources, remote) {
					o.Sources = append(o.Sources, remote)
				}
			}
		}
	}
}

// into returns the ways into a tunnel by devices. Where several tunnels share one, the
// destination tells: on an xfrm interface or a VTI in the order in which the kernel finds
// their policies, on another overlay by the configuration's remote:.
func (d *decider) into(t *xfrm.Tunnel) []firewall.Into {
	var all []firewall.Into
	for _, into := range d.facts.Devices {
		l, _ := d.links.Link(into.Name)
		own, others := d.devicePairs(t, l)
		switch {
		case len(own) == 0 && into.Tunnel != t.ID && !d.unwraps(t, into.Name):
		case len(own) == 0 && len(others) == 0 && len(d.sharers(into.Name)) > 1:
			all = append(all, d.intoShared(t, into.Name)...)
		case len(own) == 0 || len(others) == 0:
			all = append(all, firewall.Into{Device: into.Name})
		default:
			for _, p := range own {
				way := firewall.Into{Device: into.Name, Remote: p.Remote}
				for _, o := range others {
					if o.Remote.Overlaps(p.Remote) && findsBefore(o, p) && !slices.Contains(way.Except, o.Remote) {
						way.Except = append(way.Except, o.Remote)
					}
				}
				all = append(all, way)
			}
		}
	}
	return all
}

// devicePairs returns the pairs with outbound policies that an xfrm interface or a VTI
// selects: a tunnel's own, and those of others.
func (d *decider) devicePairs(t *xfrm.Tunnel, l xfrm.Link) (own, others []xfrm.Pair) {
	if d.pairsInto == nil {
		d.pairsInto = make(map[int32][]tunnelPair)
		for i := range d.Set.Tunnels {
			for _, p := range d.Set.Tunnels[i].Pairs {
				if !p.Has(xfrm.Out) {
					continue
				}
				for _, l := range d.links.LinksOf(p) {
					d.pairsInto[l.Index] = append(d.pairsInto[l.Index], tunnelPair{d.Set.Tunnels[i].ID, p})
				}
			}
		}
	}
	for _, p := range d.pairsInto[l.Index] {
		if p.tunnel == t.ID {
			own = append(own, p.pair)
		} else {
			others = append(others, p.pair)
		}
	}
	return own, others
}

// findsBefore reports whether the kernel finds a pair's policy before another's.
func findsBefore(a, b xfrm.Pair) bool {
	return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Remote.Bits(), a.Remote.Bits())) < 0
}

// exceptions names the bypass policies that no rule can honour.
func (d *decider) exceptions() {
	for i := range d.Set.Exceptions {
		e := &d.Set.Exceptions[i]
		if reason := guard.Unhonoured(e.Pair); reason != "" && e.Action != xfrm.Block {
			d.facts.Ignored = append(d.facts.Ignored, xfrm.Ignored{
				Object: fmt.Sprintf("%s policy: %s to %s", e.Action, e.Pair.Local, e.Pair.Remote), Reason: reason,
			})
		}
	}
}
