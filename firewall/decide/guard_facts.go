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

// guards adds the guards in force, with all that rules about their packets depend on.
func (d *decider) guards(inForce []guard.Guard) {
	present := make(map[string]bool, len(d.Set.Tunnels))
	for i := range d.Set.Tunnels {
		present[d.Set.Tunnels[i].ID] = true
	}
	type pairs struct {
		tunnel string
		remote netip.Prefix
	}
	locals := make(map[pairs][]netip.Prefix, len(inForce))
	seen := make(map[pairs]map[netip.Prefix]bool)
	for i := range inForce {
		g := &inForce[i]
		if g.Exception {
			continue
		}
		key := pairs{g.Tunnel, g.Remote.Masked()}
		list := locals[key]
		if len(list) > 0 {
			if seen[key] == nil {
				seen[key] = map[netip.Prefix]bool{list[0]: true}
			}
			if seen[key][g.Local] {
				continue
			}
			seen[key][g.Local] = true
		}
		locals[key] = append(list, g.Local)
	}
	d.facts.Guards = make([]firewall.GuardFacts, len(inForce))
	for i := range inForce {
		g := &inForce[i]
		f := &d.facts.Guards[i]
		f.Guard = *g
		if g.Exception {
			continue
		}
		up := (g.Source == guard.FromPolicy || present[g.Tunnel]) && !d.down[g.Tunnel]
		f.Held = g.Source == guard.FromPolicy && g.Dirs&(1<<xfrm.Out) != 0
		// This holds while a policy stands, too, though the kernel would hold packets
		// which NAT maps into its selector: rules stay when policies go, and iptables has
		// no hook behind SNAT that would tell the two apart.
		f.ByDestination = g.Local.Bits() > 0 && !up && d.hasNoSource(g.Local)
		f.Exempt = d.exempt(g)
		f.Locals = locals[pairs{g.Tunnel, g.Remote.Masked()}]
	}
}

// hasNoSource reports whether no address of this host and no route to a network lies
// in a local selector: its traffic has its source from a virtual IP, or from SNAT.
func (d *decider) hasNoSource(local netip.Prefix) bool {
	if none, ok := d.noSource[local]; ok {
		return none
	}
	here := slices.ContainsFunc(d.Host.Addresses, func(a xfrm.Address) bool { return local.Contains(a.Prefix.Addr()) })
	routed := slices.ContainsFunc(d.routesIn(local), func(i int) bool { return !device.IsInternet(d.Host.Routes[i].Dst) })
	none := slices.ContainsFunc(d.NATSources, local.Overlaps) || !here && !routed
	if d.noSource == nil {
		d.noSource = make(map[netip.Prefix]bool)
	}
	d.noSource[local] = none
	return none
}

// exempt returns the connected networks within a guard's remote selector, each on
// its own interface: a gateway never cuts off its own LAN.
func (d *decider) exempt(g *guard.Guard) []firewall.Network {
	if d.connected == nil {
		d.connected = prefix.NewIndex(len(d.facts.Connected), func(i int) netip.Prefix { return d.facts.Connected[i].Prefix })
	}
	var networks []firewall.Network
	for _, i := range d.connected.Overlapping(g.Remote) {
		networks = append(networks, d.facts.Connected[i])
	}
	if !g.Routed && g.Source != guard.FromMemory {
		return networks
	}
	// A network that is routed into a device gives way to a more specific route
	// elsewhere. It also gives way to any route by an interface that is no uplink, such
	// as a leased line with the tunnel as its backup, and so does a remembered pair. Such a
	// route may come and go faster than rules follow it, so one that was seen before counts.
	for _, i := range d.routesIn(g.Remote) {
		r := &d.Host.Routes[i]
		if device.IsInternet(r.Dst) {
			continue
		}
		l, ok := d.Host.Link(r.Link)
		if !ok || l.Name == "lo" || d.isTunnelDevice(l.Name) {
			continue
		}
		if specific := g.Routed && r.Dst.Bits() > g.Remote.Bits(); !specific && d.leadsOutside(l) {
			continue
		}
		// A packet of a VRF's or bridge's port shows the master too.
		for _, name := range device.WithMasters(d.Host, l) {
			if n := (firewall.Network{Prefix: r.Dst, Device: name}); !slices.Contains(networks, n) {
				networks = append(networks, n)
				d.noteLine(g, n)
			}
		}
	}
	for _, n := range d.linesIn(g.Remote) {
		if !slices.Contains(networks, n) {
			networks = append(networks, n)
		}
	}
	if g.Routed {
		networks = append(networks, d.inOtherVRFs(g)...)
	}
	return networks
}

// inOtherVRFs returns a guard's remote selector on all devices of the VRFs that the guard
// does not hold in: the network is another one there. A guard holds where its network is
// routed into a tunnel device, and everywhere while that is nowhere. The policies behind
// other guards know no VRFs.
func (d *decider) inOtherVRFs(g *guard.Guard) []firewall.Network {
	if len(d.facts.VRFs) == 0 {
		return nil
	}
	own := make(map[int32]bool)
	for _, i := range d.routesIn(g.Remote) {
		if l, ok := d.Host.Link(d.Host.Routes[i].Link); ok && d.isTunnelDevice(l.Name) {
			own[device.VRF(d.Host, l)] = true
		}
	}
	if len(own) == 0 {
		return nil
	}
	var names []string
	for vrf, devices := range device.ClosedVRFs(d.Host, g.Family()) {
		if !own[vrf] {
			names = append(names, devices...)
		}
	}
	slices.Sort(names)
	networks := make([]firewall.Network, len(names))
	for i, name := range names {
		networks[i] = firewall.Network{Prefix: g.Remote, Device: name}
	}
	return networks
}

// routesIn returns the places of the routes that overlap a prefix.
func (d *decider) routesIn(p netip.Prefix) []int {
	if d.routes == nil {
		d.routes = prefix.NewIndex(len(d.Host.Routes), func(i int) netip.Prefix { return d.Host.Routes[i].Dst })
	}
	return d.routes.Overlapping(p)
}

// leadsOutside reports whether strangers may come in by an interface: an uplink, an
// interface by which a peer is reached, also one whose tunnel is gone, and any one if no
// uplink is known.
func (d *decider) leadsOutside(l xfrm.Link) bool {
	uplinks := d.uplinks()
	if len(uplinks) == 0 || slices.Contains(uplinks, l.Name) {
		return true
	}
	if d.peerLinks == nil {
		d.peerLinks = make(map[int32]bool)
		for i := range d.Set.Tunnels {
			if r, ok := d.Host.Route(d.Set.Tunnels[i].Remote); ok {
				d.peerLinks[r.Link] = true
			}
		}
		asked := make(map[netip.Addr]bool)
		for i := range d.Guards {
			peer := d.Guards[i].Peer
			if asked[peer] {
				continue
			}
			asked[peer] = true
			if r, ok := d.Host.Route(peer); ok {
				d.peerLinks[r.Link] = true
			}
		}
	}
	return d.peerLinks[l.Index]
}
