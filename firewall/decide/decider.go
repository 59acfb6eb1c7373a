package decide

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// decider holds an input and the facts found so far.
type decider struct {
	firewall.Input
	facts firewall.Facts
	// links is the index of the host's devices.
	links *device.Index
	// interfaces maps xfrm interfaces to the index of their tunnel.
	interfaces map[string]int
	// shared are the reqids that several tunnels have.
	shared map[uint32]bool
	// uncertain are the reqids with a pair that has no claim: their packets may be
	// legitimate although no claim verifies them.
	uncertain map[uint32]bool
	// claimed are the places of each tunnel's claims, by its ID.
	claimed map[string]claimRange
	// tunnels are the places of the set's tunnels, by ID.
	tunnels map[string]int
	// down are the tunnels that lack an SA, by ID.
	down map[string]bool
	// defaultLinks caches the interfaces of default routes.
	defaultLinks []string
	// peerLinks caches the interfaces by which peers are reached.
	peerLinks map[int32]bool
	// noSource caches hasNoSource by local selector.
	noSource map[netip.Prefix]bool
	// routes and connected are indexes of the host's routes and connected networks.
	routes, connected *prefix.Index
	// lines is an index of the remembered lines, and movedFrom are the networks that
	// were routed into the devices of tunnels, by the ID of the tunnel.
	lines     *prefix.Index
	movedFrom map[string][]netip.Prefix
	// ofSite are the devices of tunnels by their configured site.
	ofSite map[string][]xfrm.Link
	// sites is an index of the remote selectors of sites' networks, which are of siteTunnels.
	sites       *prefix.Index
	siteTunnels []tunnelPair
	// pairsInto are the pairs with outbound policies that a device selects, by its index,
	// and sharing are the tunnels of overlays' devices.
	pairsInto map[int32][]tunnelPair
	sharing   map[string][]string
	// carried are the names of the overlays' devices.
	carried map[string]bool
}

// claimRange is the claims from one place up to another.
type claimRange struct{ from, to int }

// tunnelPair is a pair and the ID of its tunnel.
type tunnelPair struct {
	tunnel string
	pair   xfrm.Pair
}

// isTunnelDevice reports whether a device carries only tunnel traffic.
func (d *decider) isTunnelDevice(name string) bool {
	if _, ok := d.interfaces[name]; ok {
		return true
	}
	if d.carried == nil {
		d.carried = make(map[string]bool, len(d.facts.Overlays))
		for i := range d.facts.Overlays {
			d.carried[d.facts.Overlays[i].Devices[0]] = true
		}
	}
	return d.carried[name]
}
