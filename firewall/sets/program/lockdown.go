package program

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// lockdown blocks all other packets that come in by the WAN interfaces.
func (b *builder) lockdown(families []*family) []sets.Rule {
	if b.f.Lockdown == nil || len(b.f.WAN) == 0 {
		return nil
	}
	if !slices.ContainsFunc(b.table.Chains, func(c sets.Chain) bool { return c.Name == "lockdown" }) {
		b.lockdownChain(families)
	}
	return []sets.Rule{rule("lockdown", named(sets.InName, b.f.WAN), leadTo("lockdown"))}
}

func (b *builder) lockdownChain(families []*family) {
	local := num(sets.FibDstType, sets.Local)
	rules := []sets.Rule{
		rule("verified", b.isVerified(), back),
	}
	for _, f := range families {
		for depth := range uint8(2) {
			rules = append(rules, each("case 2: no bit may be on the packet", b.of[f].bare.lookups(f, f.from().at(depth)), back)...)
		}
	}
	rules = append(rules,
		rule("replies", replies, back),
		rule("IPsec", oneOf(sets.L4Proto, uint64(xfrm.ESP), uint64(xfrm.AH)), local, back),
		rule("IKE", oneOf(sets.UDPDst, firewall.IKE, firewall.NATT), local, back),
		rule("neighbour discovery", oneOf(sets.ICMPv6Type, 133, 134, 135, 136), back),
		rule("DHCP", num(sets.NFProto, 2), num(sets.UDPSrc, 67), num(sets.UDPDst, 68), local, back),
		rule("DHCP", sets.Equals(sets.Dst4, sets.Addr(firewall.LimitedBroadcast())), num(sets.UDPSrc, 67), num(sets.UDPDst, 68), back),
		rule("DHCPv6", num(sets.NFProto, 10), num(sets.UDPSrc, 547), num(sets.UDPDst, 546), local, back))
	for _, at := range b.f.EncapPorts {
		k := sets.Dst4
		if !at.Addr().Is4() {
			k = sets.Dst6
		}
		rules = append(rules, rule("ESP in UDP", sets.Equals(k, sets.Addr(at.Addr())), num(sets.UDPDst, uint64(at.Port())), back))
	}
	for _, s := range b.f.Lockdown.Services {
		for _, terms := range service(s) {
			rules = append(rules, rule("service", append(terms, local, back)...))
		}
	}
	b.chain("drop_lockdown", "packets that lockdown drops", append(b.logged("lockdown"), rule("lockdown", sets.Counter{}, sets.Verdict{Do: sets.Drop}))...)
	b.chain("lockdown", "other packets in by the WAN interfaces", append(rules, rule("lockdown", leadTo("drop_lockdown")))...)
}
