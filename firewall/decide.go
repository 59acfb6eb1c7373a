package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Input is all that facts are decided from.
type Input struct {
	Set    xfrm.Set
	Host   xfrm.Host
	Config Config
	// Peers has the report of the IKE daemon's hook on each tunnel, by tunnel ID.
	// It only ever selects among entries that the administrator wrote.
	Peers map[string]Peer
	// Guards are remembered and configured ones; those of live policies follow
	// from the set.
	Guards []Guard
	// NATSources are the addresses that SNAT rules of other programs map to.
	NATSources []netip.Prefix
	// MarksWritten is true if rules of other programs write our bits. Packets that
	// lose VERIFIED by them are accepted on the policy match alone, which is sound
	// because crossed packets were dropped before.
	MarksWritten bool
}

// Peer is the other end of a tunnel as the IKE daemon's hook reported it. An empty
// field is not known.
type Peer struct {
	Connection string
	// Identity is the EAP or XAuth user that the peer authenticated as, else its IKE
	// identity.
	Identity string
}

// Decide finds all facts about a host. It is pure: equal inputs give equal facts.
func Decide(in Input) Facts {
	host, warnings := withoutUnnameableLinks(in.Host)
	in.Host = host
	in.Config.WAN = withMasterNames(in.Config.WAN, host)
	d := &decider{
		Input: in,
		facts: Facts{
			Marks: in.Config.Marks, MarkOnly: in.Config.MarkOnly, WAN: in.Config.WAN, Log: in.Config.Log,
			Lockdown: in.Config.Lockdown, Asymmetric: in.Config.Guard.Asymmetric,
			NoIPv6: in.Host.NoIPv6, MarksWritten: in.MarksWritten, Warnings: warnings,
		},
		interfaces: xfrmInterfaces(in.Set, in.Host),
		shared:     sharedReqids(in.Set),
		uncertain:  make(map[uint32]bool),
		claimed:    make(map[string]claimRange, len(in.Set.Tunnels)),
	}
	d.facts.Overlays = overlays(d.cappedSet(), in.Host)
	d.facts.Connected = connectedNetworks(in.Host, d.isTunnelDevice)
	d.devices()
	for i := range in.Set.Tunnels {
		d.tunnel(&in.Set.Tunnels[i])
	}
	d.unknownPeers()
	d.enforcement()
	d.guards(allGuards(d.capped(LiveGuards(in.Set, in.Host)), in.Guards))
	d.facts.Homes = d.homes()
	d.behind()
	for i := range in.Set.Tunnels {
		d.known(&in.Set.Tunnels[i])
		d.restriction(&in.Set.Tunnels[i])
	}
	d.strangers()
	slices.SortFunc(d.facts.EncapPorts, netip.AddrPort.Compare)
	d.facts.EncapPorts = slices.Compact(d.facts.EncapPorts)
	slices.SortFunc(d.facts.Untagged, compareOuterFlows)
	d.facts.Untagged = slices.Compact(d.facts.Untagged)
	slices.Sort(d.facts.Warnings)
	return d.facts
}

// decider holds an input and the facts found so far.
type decider struct {
	Input
	facts Facts
	// interfaces maps xfrm interfaces to the index of their tunnel.
	interfaces map[string]int
	// shared are the reqids that several tunnels have.
	shared map[uint32]bool
	// uncertain are the reqids with a pair that no claim stands for: packets of
	// theirs may be legitimate though no claim verifies them.
	uncertain map[uint32]bool
	// claimed are the places of each tunnel's claims, by its ID.
	claimed map[string]claimRange
	// down are the tunnels that lack an SA, by ID.
	down map[string]bool
	// defaultLinks caches the interfaces of default routes.
	defaultLinks []string
	// peerLinks caches the interfaces by which peers are reached.
	peerLinks map[int32]bool
	// noSource caches hasNoSource by local selector.
	noSource map[netip.Prefix]bool
}

// claimRange is the claims from one place up to another.
type claimRange struct{ from, to int }

// withoutUnnameableLinks returns the host without the links that no rule can name,
// so that one odd name does not keep all rules from being applied. iptables takes
// a name with a trailing "+" for a pattern.
func withoutUnnameableLinks(host xfrm.Host) (xfrm.Host, []string) {
	var warnings []string
	var links []xfrm.Link
	for _, l := range host.Links {
		if SafeInterface(l.Name) && !strings.HasSuffix(l.Name, "+") {
			links = append(links, l)
			continue
		}
		warnings = append(warnings, fmt.Sprintf("interface %q has a name that iptables can't be told, so no rule names it: rename it with ip link set dev", l.Name))
	}
	host.Links = links
	return host, warnings
}

// isTunnelDevice reports whether a device carries only tunnel traffic.
func (d *decider) isTunnelDevice(name string) bool {
	_, ok := d.interfaces[name]
	return ok || slices.ContainsFunc(d.facts.Overlays, func(o Overlay) bool { return o.Devices[0] == name })
}

// sharedReqids returns the reqids that several tunnels have.
func sharedReqids(set xfrm.Set) map[uint32]bool {
	seen, shared := make(map[uint32]bool, len(set.Tunnels)), make(map[uint32]bool)
	for i := range set.Tunnels {
		reqid := set.Tunnels[i].Reqid
		if seen[reqid] {
			shared[reqid] = true
		}
		seen[reqid] = true
	}
	return shared
}
