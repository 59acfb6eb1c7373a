package decide

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// noteLine adds a network to which a guard gave way on an interface. An uplink is no line.
func (d *decider) noteLine(n firewall.Network) {
	line := guard.Line{Network: n.Prefix.Masked(), Device: n.Device}
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
// and the peer goes on sending from there.
func (d *decider) routedBefore(t *xfrm.Tunnel) []netip.Prefix {
	if d.movedFrom == nil {
		d.movedFrom = make(map[string][]netip.Prefix)
		for i := range d.Guards {
			if g := &d.Guards[i]; g.Source == guard.FromMemory && g.Routed {
				d.movedFrom[g.Tunnel] = append(d.movedFrom[g.Tunnel], g.Remote)
			}
		}
	}
	return d.movedFrom[t.ID]
}
