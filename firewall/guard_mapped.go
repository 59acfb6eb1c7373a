package firewall

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// toMapped leads to the part of case 6b that shows only after DNAT: a stranger
// with an address of the LAN sends to a port-forward that leads to the other
// end of a tunnel. In PREROUTING the packet was for this host and no pair's;
// now it is about to be encrypted.
func (b *builder) toMapped() Rule {
	return Rule{
		Policy: PolicyMatch{Dir: PolicyOut}, Ct: CtMatch{State: CtDNAT, Dir: CtOriginal},
		Target: Target{Verb: Jump, Chain: chainMapped}, Purpose: PurposeDispatch,
	}
}

// mapped drops such packets where their source lives behind another interface
// than the one they came in by. rpfilter works in PREROUTING only, so the
// routes to the local selectors stand here as rules, the most specific first.
func (b *builder) mapped() {
	// What came out of a state or a tunnel's device is no stranger's.
	rules := []Rule{{Policy: PolicyMatch{Dir: PolicyIn}, Target: Target{Verb: Return}, Purpose: PurposeDone}}
	rules = append(rules, b.fromDevices()...)
	for _, name := range b.Config.Guard.Asymmetric {
		rules = append(rules, Rule{In: name, Target: Target{Verb: Return}, Purpose: PurposeExempt})
	}
	homes := b.homes()
	for i, h := range homes {
		rules = append(rules, Rule{Src: h.network, In: h.device, Target: Target{Verb: Return}, Purpose: PurposeLAN})
		if i+1 == len(homes) || homes[i+1].network != h.network {
			rules = append(rules, Rule{Src: h.network, Target: drop(PurposeInject), Purpose: PurposeInjectGuard})
		}
	}
	b.chain(Mangle, chainMapped, rules...)
}

// homes are the parts of local selectors that routes lead to, each with its
// interfaces. What only a default route leads to is nobody's home, and what is
// behind a tunnel is judged by where it came from.
func (b *builder) homes() []lanSpot {
	locals := make(map[netip.Prefix]bool)
	var last netip.Prefix
	for _, r := range b.standing {
		if g := &b.all[r.at]; !g.Pierce && g.Local != last && !wide(g.Local) && len(b.byRemote.of(g.Local)) == 0 {
			locals[g.Local] = true
			last = g.Local
		}
	}
	routes := make(map[netip.Prefix][]string)
	var homes []lanSpot
	for _, r := range b.Host.Routes {
		l, ok := b.Host.Link(r.Link)
		if !ok || r.Dst.Bits() == 0 || familyOf(r.Dst.Addr()) != b.family || l.Name == "lo" || b.isTunnelDevice(l.Name) {
			continue
		}
		dst := r.Dst.Masked()
		// A packet of a VRF's port shows the VRF in FORWARD.
		names := withMasters(b.Host, l)
		routes[dst] = append(routes[dst], names...)
		if _, ok := coveredBy(dst, func(p netip.Prefix) bool { return locals[p] }); ok {
			for _, name := range names {
				homes = append(homes, lanSpot{dst, name})
			}
		}
	}
	for local := range locals {
		above, ok := coveredBy(local, func(p netip.Prefix) bool { return p != local && len(routes[p]) > 0 })
		if !ok || len(routes[local]) > 0 {
			continue
		}
		for _, name := range routes[above] {
			homes = append(homes, lanSpot{local, name})
		}
	}
	slices.SortFunc(homes, func(x, y lanSpot) int {
		return cmp.Or(cmp.Compare(y.network.Bits(), x.network.Bits()), xfrm.ComparePrefix(x.network, y.network), cmp.Compare(x.device, y.device))
	})
	return slices.Compact(homes)
}

// coveredBy returns the most specific network around p, p itself included, that
// fits.
func coveredBy(p netip.Prefix, fits func(netip.Prefix) bool) (netip.Prefix, bool) {
	for bits := p.Bits(); bits > 0; bits-- {
		if at := netip.PrefixFrom(p.Addr(), bits).Masked(); fits(at) {
			return at, true
		}
	}
	return netip.Prefix{}, false
}
