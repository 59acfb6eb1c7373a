package firewall

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// neverJudged returns what no guard looks at: what is not for a tunnel's sites,
// or keeps the link itself alive. Neighbours are never asked through a router,
// so of what passes through this host nothing is spared for its type. The
// packet's address by which it was led here lies within some prefixes: what can't
// be there is not asked for.
func (b *builder) neverJudged(outbound bool, within []netip.Prefix, by direction) []Rule {
	var sources, destinations []string
	if b.family == xfrm.IPv4 {
		sources = []string{"0.0.0.0/32", "169.254.0.0/16"}
		destinations = []string{"224.0.0.0/4", "255.255.255.255/32", "169.254.0.0/16"}
	} else {
		// Neighbour discovery and DHCPv6 use link-local or multicast addresses,
		// or the unspecified one.
		sources = []string{"::/128", "fe80::/10"}
		destinations = []string{"ff00::/8", "fe80::/10"}
	}
	var rules []Rule
	for _, s := range sources {
		if p := netip.MustParsePrefix(s); by != bySource || overlapsAny(p, within) {
			rules = append(rules, Rule{Src: p, Target: Target{Verb: Return}, Purpose: PurposeExempt})
		}
	}
	for _, d := range destinations {
		if p := netip.MustParsePrefix(d); by != byDestination || overlapsAny(p, within) {
			rules = append(rules, Rule{Dst: p, Target: Target{Verb: Return}, Purpose: PurposeExempt})
		}
	}
	if b.family == xfrm.IPv6 {
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

// ownTraffic returns what this host itself needs before there are tunnels: its
// own IKE, ESP, AH and DHCP as they leave or arrive. With a selector that covers
// the other end's address they would be judged.
func (b *builder) ownTraffic(outbound bool) []Rule {
	rules := []Rule{{Proto: xfrm.ESP}, {Proto: xfrm.AH}}
	for _, port := range []uint16{ike, natT} {
		rules = append(rules, Rule{Proto: xfrm.UDP, DPorts: Port(port)})
	}
	for _, at := range b.encapPorts() {
		rules = append(rules, Rule{Dst: single(at.Addr()), Proto: xfrm.UDP, DPorts: Port(at.Port())})
	}
	dhcp := Rule{Proto: xfrm.UDP, SPorts: Port(67), DPorts: Port(68)}
	if b.family == xfrm.IPv6 {
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

// fromDevices spares what comes out of tunnel interfaces.
func (b *builder) fromDevices() []Rule {
	var rules []Rule
	for _, name := range slices.Sorted(maps.Keys(b.devices)) {
		rules = append(rules, Rule{In: name, Target: Target{Verb: Return}, Purpose: PurposeExempt})
	}
	return rules
}

// deviceExempt spares what goes into tunnel devices: on that pass no policy
// shows, and what comes out of them below is judged on its own.
func (b *builder) deviceExempt() []Rule {
	var rules []Rule
	for _, name := range b.tunnelDevices() {
		rules = append(rules, Rule{Out: name, Target: Target{Verb: Return}, Purpose: PurposeExempt})
	}
	return rules
}
