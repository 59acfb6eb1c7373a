// Package decide finds the facts about a host: the claims that its decrypted packets are
// verified by and their evidence (claim.go, evidence.go), the guards with the host's
// networks that they depend on (guard_facts.go, home.go, uplink.go), overlays and their
// sources (belong.go), the configuration's part (match.go, caps.go, mss.go), and the report
// on each tunnel (tunnel.go).
//
// By cases: 1 to 3 rest on the claims, 4 on overlays, 5 on the marks; 6, 6b and 8 to 8d rest on
// the guards, with remembered routes beside a tunnel in line.go; 7 rests on the known reqids
// (tunnel.go), 8e on stranger.go. The ports of IKE and ESP are in outer.go.
//
// The package reads nothing and makes no rule: the engines lay its facts out.
package decide

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/limit"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Facts finds all facts about a host. It is pure: equal inputs give equal facts.
func Facts(in firewall.Input) firewall.Facts {
	all := in.Host
	host, warnings := device.WithoutUnnameable(in.Host)
	var reached []limit.Excess
	in.Set, in.Host, reached = limit.Apply(in.Set, host)
	in.Config.WAN = device.WithMasterNames(in.Config.WAN, host)
	d := &decider{
		Input: in,
		facts: firewall.Facts{
			Marks: in.Config.Marks, MarkOnly: in.Config.MarkOnly, WAN: in.Config.WAN, Log: in.Config.Log,
			Lockdown: in.Config.Lockdown, Asymmetric: in.Config.Guard.Asymmetric,
			NoIPv6: in.Host.NoIPv6, Warnings: warnings,
		},
		links:      device.NewIndex(in.Host),
		interfaces: device.Interfaces(in.Set, in.Host),
		shared:     sharedReqids(in.Set),
		uncertain:  make(map[uint32]bool),
		claimed:    make(map[string]claimRange, len(in.Set.Tunnels)),
	}
	for _, o := range device.Overlays(d.cappedSet(), in.Host) {
		d.facts.Overlays = append(d.facts.Overlays, firewall.Overlay{Overlay: o})
	}
	for _, e := range reached {
		d.facts.Excess = append(d.facts.Excess, e)
		d.facts.Warnings = append(d.facts.Warnings, e.String())
	}
	d.overlaySources()
	d.openDevices()
	d.exceptions()
	d.facts.VRFs = device.VRFs(in.Host)
	if d.facts.Bridges = device.Bridges(in.Host); len(d.facts.Bridges) > 0 {
		d.facts.MACs = device.MACs(all)
	}
	d.facts.Connected = connectedNetworks(in.Host, d.isTunnelDevice)
	d.devices()
	for i := range in.Set.Tunnels {
		d.tunnel(&in.Set.Tunnels[i])
	}
	d.unknownPeers()
	d.enforcement()
	d.guards(guard.InForce(d.capped(guard.Live(in.Set, in.Host)), in.Guards))
	d.facts.Homes = d.homes()
	d.facts.Inside = d.inside()
	d.behind()
	for i := range in.Set.Tunnels {
		d.known(&in.Set.Tunnels[i])
		d.restriction(&in.Set.Tunnels[i])
	}
	d.strangers()
	d.unnamedPorts()
	d.facts.EncapPorts = append(d.facts.EncapPorts, configuredPorts(d.Config.IKEPorts, d.Host)...)
	slices.SortFunc(d.facts.EncapPorts, netip.AddrPort.Compare)
	d.facts.EncapPorts = slices.Compact(d.facts.EncapPorts)
	slices.SortFunc(d.facts.Untagged, compareOuterFlows)
	d.facts.Untagged = slices.Compact(d.facts.Untagged)
	slices.Sort(d.facts.Warnings)
	return d.facts
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
