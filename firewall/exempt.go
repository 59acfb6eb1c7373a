package firewall

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// neverJudged spares packets that no guard is about: those that no tunnel's site could
// send, and those that keep the link itself alive. Neighbours are never asked through
// a router, so no forwarded packet is spared for its type. Within are the prefixes of
// the address by which packets are led here: other addresses are not asked for.
func (l *layout) neverJudged(outbound bool, within []netip.Prefix, by Direction) []Rule {
	var sources, destinations []string
	if l.family == xfrm.IPv4 {
		sources = []string{"0.0.0.0/32", "169.254.0.0/16"}
		destinations = []string{"224.0.0.0/4", "255.255.255.255/32", "169.254.0.0/16"}
	} else {
		// Neighbour discovery and DHCPv6 use link-local or multicast addresses, or the
		// unspecified one.
		sources = []string{"::/128", "fe80::/10"}
		destinations = []string{"ff00::/8", "fe80::/10"}
	}
	var rules []Rule
	for _, s := range sources {
		if p := netip.MustParsePrefix(s); by != BySource || overlapsAny(p, within) {
			rules = append(rules, Rule{Src: p, Target: Target{Verb: Return}, Purpose: PurposeExempt})
		}
	}
	for _, d := range destinations {
		if p := netip.MustParsePrefix(d); by != ByDestination || overlapsAny(p, within) {
			rules = append(rules, Rule{Dst: p, Target: Target{Verb: Return}, Purpose: PurposeExempt})
		}
	}
	if l.family == xfrm.IPv6 {
		// A neighbour may be asked from and at its global address too.
		for _, kind := range []uint8{133, 134, 135, 136} {
			r := Rule{Proto: xfrm.ICMPv6, ICMP: ICMPMatch{Set: true, Type: kind}, Target: Target{Verb: Return}, Purpose: PurposeExempt}
			if outbound {
				r.SrcType = Local
			} else {
				r.DstType = Local
			}
			rules = append(rules, r)
		}
	}
	return rules
}

// ownTraffic spares packets that this host itself needs before there are tunnels: its
// own IKE, ESP, AH and DHCP. A selector that covers the other end's address would
// claim them.
func (l *layout) ownTraffic(outbound bool) []Rule {
	rules := []Rule{{Proto: xfrm.ESP}, {Proto: xfrm.AH}}
	for _, port := range []uint16{IKE, NATT} {
		rules = append(rules, Rule{Proto: xfrm.UDP, DPorts: Port(port)})
	}
	for _, at := range l.encapPorts() {
		rules = append(rules, Rule{Dst: single(at.Addr()), Proto: xfrm.UDP, DPorts: Port(at.Port())})
	}
	dhcp := Rule{Proto: xfrm.UDP, SPorts: Port(67), DPorts: Port(68)}
	if l.family == xfrm.IPv6 {
		dhcp.SPorts, dhcp.DPorts = Port(547), Port(546)
	}
	rules = append(rules, dhcp)
	for i := range rules {
		r := &rules[i]
		r.Target, r.Purpose, r.DstType = Target{Verb: Return}, PurposeExempt, Local
		if outbound {
			r.Src, r.Dst, r.SPorts, r.DPorts = r.Dst, r.Src, r.DPorts, r.SPorts
			r.SrcType, r.DstType = Local, ""
		}
	}
	return rules
}

// fromDevices spares packets out of xfrm interfaces.
func (l *layout) fromDevices() []Rule {
	var rules []Rule
	for _, d := range l.Devices {
		if d.Xfrm {
			rules = append(rules, Rule{In: d.Name, Target: Target{Verb: Return}, Purpose: PurposeExempt})
		}
	}
	return rules
}

// intoDevices spares packets into tunnel devices: on that pass they show no policy,
// and what the device sends below is judged on its own.
func (l *layout) intoDevices() []Rule {
	var rules []Rule
	for _, d := range l.Devices {
		rules = append(rules, Rule{Out: d.Name, Target: Target{Verb: Return}, Purpose: PurposeExempt})
	}
	return rules
}
