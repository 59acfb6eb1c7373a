package firewall

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// UDP ports, and the encapsulation type of ESP in UDP (linux/udp.h).
const (
	ike      = 500
	natT     = 4500
	espInUDP = 2 // UDP_ENCAP_ESPINUDP
)

// encapPorts are the local addresses and ports, besides 4500, on which ESP in
// UDP arrives for inbound states of this outer family. Only the local end
// counts: the peer chooses its own.
func (b *builder) encapPorts() []netip.AddrPort {
	if b.encaps == nil {
		found := []netip.AddrPort{}
		for _, i := range b.notable {
			sas := b.Set.Tunnels[i].SAs
			for j := range sas {
				if sa := &sas[j]; oddPort(sa) && sa.Family == b.family {
					found = append(found, netip.AddrPortFrom(sa.Dst, sa.Encap.DPort))
				}
			}
		}
		slices.SortFunc(found, netip.AddrPort.Compare)
		b.encaps = slices.Compact(found)
	}
	return b.encaps
}

// oddPort reports whether ESP in UDP arrives for a state on a port of its own.
func oddPort(sa *xfrm.SA) bool {
	return sa.Inbound && sa.Encap.Type == espInUDP && sa.Encap.DPort != natT && sa.Encap.DPort != 0
}

// tagDispatch sends outer packets to the tag chain.
func (b *builder) tagDispatch() []Rule {
	to := Target{Verb: Jump, Chain: chainTag}
	rules := []Rule{
		{Proto: xfrm.ESP, Target: to, Purpose: PurposeDispatch},
		{Proto: xfrm.AH, Target: to, Purpose: PurposeDispatch},
		{Proto: xfrm.UDP, DPorts: Port(natT), DstType: Local, Target: to, Purpose: PurposeDispatch},
	}
	for _, at := range b.encapPorts() {
		rules = append(rules, Rule{
			Dst: single(at.Addr()), Proto: xfrm.UDP, DPorts: Port(at.Port()), Target: to, Purpose: PurposeDispatch,
		})
	}
	return rules
}

// tagging sets TAG on every outer packet, whatever state it belongs to, so that
// no rekey races with a rule. States that a tagged packet would not find are
// spared, by address, never by SPI.
func (b *builder) tagging() {
	m := b.Config.Marks
	type outer struct {
		peer, local netip.Addr
		proto       xfrm.Proto
		port        uint16
		id          string
	}
	var spared []outer
	for _, i := range b.notable {
		t := &b.Set.Tunnels[i]
		greedyPair := slices.ContainsFunc(t.Pairs, func(p xfrm.Pair) bool { return greedyPolicy(p, b.Host, m) })
		for j := range t.SAs {
			sa := &t.SAs[j]
			if !sa.Inbound || sa.Family != b.family || !greedyPair && !greedy(&sa.State, b.Host, m) {
				continue
			}
			o := outer{peer: sa.Src, local: sa.Dst, proto: sa.Proto, id: b.Set.Tunnels[i].ID}
			if sa.Encap.Type == espInUDP {
				o.proto, o.port = xfrm.UDP, sa.Encap.DPort
			}
			spared = append(spared, o)
		}
	}
	slices.SortFunc(spared, func(x, y outer) int {
		return cmp.Or(x.peer.Compare(y.peer), x.local.Compare(y.local), cmp.Compare(x.proto, y.proto),
			cmp.Compare(x.port, y.port), cmp.Compare(x.id, y.id))
	})
	var rules []Rule
	for _, o := range slices.Compact(spared) {
		r := Rule{Src: single(o.peer), Dst: single(o.local), Proto: o.proto, Purpose: PurposeUntagged, Tunnel: o.id}
		if o.port != 0 {
			r.DPorts = Port(o.port)
		}
		// A packet that came out of an outer tunnel may carry bits already.
		clearing := r
		clearing.Target = setMark(0, m.Both())
		r.Target = Target{Verb: Return}
		rules = append(rules, clearing, r)
	}
	rules = append(rules, Rule{Target: setMark(m.Tag, m.Tag), Purpose: PurposeTag})
	b.chain(Mangle, chainTag, rules...)
}
