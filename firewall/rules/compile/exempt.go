package compile

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// neverJudged spares packets that no guard is about: those that no tunnel's site could
// send, and those that keep the link itself alive. Neighbours are never asked through
// a router, so no forwarded packet is spared for its type. Within are the prefixes of
// the address by which packets are led here: other addresses are not asked for.
func (l *cases) neverJudged(outbound bool, within []netip.Prefix, by tree.Direction) []rules.Rule {
	var sources, destinations []string
	if l.Family == xfrm.IPv4 {
		sources = []string{"0.0.0.0/32", "169.254.0.0/16"}
		destinations = []string{"224.0.0.0/4", "255.255.255.255/32", "169.254.0.0/16"}
	} else {
		// Neighbour discovery and DHCPv6 use link-local or multicast addresses, or the
		// unspecified one.
		sources = []string{"::/128", "fe80::/10"}
		destinations = []string{"ff00::/8", "fe80::/10"}
	}
	var list []rules.Rule
	for _, s := range sources {
		if p := netip.MustParsePrefix(s); by != tree.BySource || prefix.OverlapsAny(p, within) {
			list = append(list, rules.Rule{Src: p, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt})
		}
	}
	for _, d := range destinations {
		if p := netip.MustParsePrefix(d); by != tree.ByDestination || prefix.OverlapsAny(p, within) {
			list = append(list, rules.Rule{Dst: p, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt})
		}
	}
	if l.Family == xfrm.IPv6 {
		// A neighbour may be asked from and at its global address too.
		for _, kind := range []uint8{133, 134, 135, 136} {
			r := rules.Rule{Proto: xfrm.ICMPv6, ICMP: rules.ICMPMatch{Set: true, Type: kind}, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt}
			if outbound {
				r.SrcType = rules.Local
			} else {
				r.DstType = rules.Local
			}
			list = append(list, r)
		}
	}
	return list
}

// ownTraffic spares packets that this host itself needs before there are tunnels: its
// own IKE, ESP, AH and DHCP. A selector that covers the other end's address would
// claim them.
func (l *cases) ownTraffic(outbound bool) []rules.Rule {
	list := []rules.Rule{{Proto: xfrm.ESP}, {Proto: xfrm.AH}}
	for _, port := range []uint16{firewall.IKE, firewall.NATT} {
		list = append(list, rules.Rule{Proto: xfrm.UDP, DPorts: firewall.Port(port)})
	}
	for _, at := range l.FamilyEncapPorts() {
		list = append(list, rules.Rule{Dst: prefix.Single(at.Addr()), Proto: xfrm.UDP, DPorts: firewall.Port(at.Port())})
	}
	dhcp := rules.Rule{Proto: xfrm.UDP, SPorts: firewall.Port(67), DPorts: firewall.Port(68)}
	if l.Family == xfrm.IPv6 {
		dhcp.SPorts, dhcp.DPorts = firewall.Port(547), firewall.Port(546)
	}
	list = append(list, dhcp)
	for i := range list {
		r := &list[i]
		r.Target, r.Purpose, r.DstType = rules.Target{Verb: rules.Return}, rules.PurposeExempt, rules.Local
		if outbound {
			r.Src, r.Dst, r.SPorts, r.DPorts = r.Dst, r.Src, r.DPorts, r.SPorts
			r.SrcType, r.DstType = rules.Local, ""
		}
	}
	return list
}

// fromDevices spares packets out of xfrm interfaces.
func (l *cases) fromDevices() []rules.Rule {
	var list []rules.Rule
	for _, d := range l.Devices {
		if d.Xfrm {
			list = append(list, rules.Rule{In: d.Name, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt})
		}
	}
	return list
}

// sparedDevices spares packets into tunnel devices: on that pass they show no policy,
// and the packets that the device sends below are judged on their own. It spares those
// into a VRF too, because the pass by its port is judged, and those that stay behind the
// interface by which they came.
func (l *cases) sparedDevices() []rules.Rule {
	var list []rules.Rule
	for _, d := range l.Devices {
		list = append(list, rules.Rule{Out: d.Name, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt})
	}
	for _, name := range l.VRFs {
		list = append(list, rules.Rule{Out: name, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt})
	}
	for _, n := range l.Inside {
		if xfrm.FamilyOf(n.Prefix.Addr()) == l.Family {
			list = append(list, rules.Rule{Src: n.Prefix, Out: n.Device, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeLAN})
		}
	}
	return list
}
