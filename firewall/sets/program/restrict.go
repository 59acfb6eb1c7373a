package program

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// service matches a service, in both families where it is ICMP.
func service(s firewall.Service) [][]sets.Term {
	if s.Proto == xfrm.ICMP || s.Proto == xfrm.ICMPv6 {
		return [][]sets.Term{{oneOf(sets.L4Proto, uint64(xfrm.ICMP), uint64(xfrm.ICMPv6))}}
	}
	proto := num(sets.L4Proto, uint64(s.Proto))
	switch {
	case s.Ports == (firewall.Ports{}):
		return [][]sets.Term{{proto}}
	case s.Ports.Lo == s.Ports.Hi:
		return [][]sets.Term{{proto, num(sets.DstPort, uint64(s.Ports.Lo))}}
	}
	port := func(n uint16) sets.Value { return sets.Number(sets.TypePort, uint64(n)) }
	return [][]sets.Term{{proto, sets.Range{Field: sets.F(sets.DstPort), Low: port(s.Ports.Lo), High: port(s.Ports.Hi)}}}
}

// restrictedIn leads packets out of restricted tunnels to the tunnel's chain.
func (b *builder) restrictedIn() []sets.Rule {
	b.restrictions()
	var rules []sets.Rule
	if len(b.f.Restrictions) > 0 {
		rules = append(rules, dispatches(sets.InReqid, "restrict_in")...)
	}
	for i := range b.f.Restrictions {
		r := &b.f.Restrictions[i]
		if r.In == nil {
			continue
		}
		rules = append(rules, b.sharedRules(r.Tunnel, r.Sources, true, chainOf("in", r))...)
		for j := range r.Overlays {
			rules = append(rules, b.outOfOverlay(&r.Overlays[j], chainOf("in", r))...)
		}
	}
	return rules
}

// restrictedOut leads packets into restricted tunnels to the tunnel's chain.
func (b *builder) restrictedOut() []sets.Rule {
	b.restrictions()
	var rules []sets.Rule
	if len(b.f.Restrictions) > 0 {
		rules = append(rules, dispatches(sets.OutReqid, "restrict_out")...)
	}
	for i := range b.f.Restrictions {
		r := &b.f.Restrictions[i]
		if r.Out == nil && r.Remote == nil {
			continue
		}
		rules = append(rules, b.sharedRules(r.Tunnel, r.Destinations, false, chainOf("out", r))...)
		for _, way := range r.Into {
			match := []sets.Term{is(sets.OutName, way.Device)}
			if way.Remote.IsValid() {
				match = append(match, inside(destination(way.Remote.Addr().Is4()), way.Remote))
			}
			for _, p := range way.Except {
				not := inside(destination(p.Addr().Is4()), p)
				not.Op = sets.Neq
				match = append(match, not)
			}
			rules = append(rules, rule("restrictions", append(match, jump(chainOf("out", r)))...))
		}
	}
	return rules
}

// outOfOverlay leads the packets of a tunnel out of an overlay device to a chain:
// verified ones, by their source where it tells tunnels apart, and those from an address
// that no tunnel of the device may send from.
func (b *builder) outOfOverlay(o *firewall.Overlay, chain string) []sets.Rule {
	device := named(sets.InName, o.Devices)
	if o.Sources == nil {
		return []sets.Rule{rule("restrictions", device, inClear, b.isVerified(), jump(chain))}
	}
	var rules []sets.Rule
	for _, p := range o.Sources {
		rules = append(rules, rule("restrictions", device, inClear, b.isVerified(), inside(source(p.Addr().Is4()), p), jump(chain)))
	}
	return append(rules, rule("restrictions", is(sets.InName, o.Devices[0]), inClear, b.unverified(), jump(chain)))
}

// dispatches lead to the chain of the tunnel, and of a tunnel within it.
func dispatches(k sets.FieldKind, name string) []sets.Rule {
	var rules []sets.Rule
	for depth := range uint8(2) {
		rules = append(rules, rule("restrictions", sets.Dispatch{Fields: []sets.Field{sets.F(k).At(depth)}, Map: name}))
	}
	return rules
}

func destination(is4 bool) sets.FieldKind {
	if is4 {
		return sets.Dst4
	}
	return sets.Dst6
}

// sharedRules lead packets to a tunnel's chain if several tunnels share the reqid of
// their SA. They match the peer's outer address, or where none is known the inner one.
func (b *builder) sharedRules(tunnel string, prefixes []firewall.RestrictedPrefix, inbound bool, chain string) []sets.Rule {
	var seen []firewall.SAMatch
	var rules []sets.Rule
	for _, p := range prefixes {
		reqid, outer4, outer6, peer := sets.OutReqid, sets.OutOuterDst4, sets.OutOuterDst6, p.SA.Dst
		inner := destination(p.Prefix.Addr().Is4())
		if inbound {
			reqid, outer4, outer6, peer = sets.InReqid, sets.InOuterSrc4, sets.InOuterSrc6, p.SA.Src
			inner = source(p.Prefix.Addr().Is4())
		}
		if !b.isSharedReqid(p.SA.Reqid, tunnel) || peer.IsValid() && slices.Contains(seen, p.SA) {
			continue
		}
		seen = append(seen, p.SA)
		for depth := range uint8(2) {
			of := func(k sets.FieldKind, v sets.Value) sets.Term {
				return sets.Match{Field: sets.F(k).At(depth), Value: v}
			}
			match := []sets.Term{of(reqid, sets.Number(sets.TypeReqid, uint64(p.SA.Reqid)))}
			switch {
			case peer.Is4():
				match = append(match, of(outer4, sets.Addr(peer)))
			case peer.IsValid():
				match = append(match, of(outer6, sets.Addr(peer)))
			case p.Prefix.Bits() > 0:
				match = append(match, within(inner, p.Prefix))
			}
			rules = append(rules, rule("restrictions", append(match, jump(chain))...))
		}
	}
	return rules
}

// isSharedReqid reports whether another tunnel has the reqid too.
func (b *builder) isSharedReqid(reqid uint32, tunnel string) bool {
	return slices.ContainsFunc(b.f.Claims, func(c firewall.Claim) bool { return c.In.Reqid == reqid && c.Tunnel != tunnel })
}

func source(is4 bool) sets.FieldKind {
	if is4 {
		return sets.Src4
	}
	return sets.Src6
}

// chainOf names a tunnel's chain by its ID, so that no other tunnel's coming or going
// renames it.
func chainOf(direction string, r *firewall.Restriction) string {
	return fmt.Sprintf("restrict_%s_%s", direction, strings.Map(func(c rune) rune {
		if c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return c
		}
		return '_'
	}, r.Tunnel))
}

// restrictions adds the maps and chains of restricted tunnels, once.
func (b *builder) restrictions() {
	if len(b.f.Restrictions) == 0 || slices.ContainsFunc(b.table.Sets, func(s sets.Set) bool { return s.Name == "restrict_in" }) {
		return
	}
	in := sets.Set{Name: "restrict_in", Comment: "restricted tunnels", Verdicts: true}
	out := sets.Set{Name: "restrict_out", Comment: "restricted tunnels", Verdicts: true}
	for i := range b.f.Restrictions {
		r := &b.f.Restrictions[i]
		if r.In != nil {
			in.Elements = append(in.Elements, b.dispatch(r.Sources, chainOf("in", r), r.Tunnel)...)
			b.serviceChain(r, "in", r.In, sets.Verdict{Do: sets.Drop})
		}
		if r.Out != nil || r.Remote != nil {
			out.Elements = append(out.Elements, b.dispatch(r.Destinations, chainOf("out", r), r.Tunnel)...)
			b.serviceChain(r, "out", r.Out, sets.Reject{With: sets.AdminProhibited})
		}
	}
	b.set(in, sets.InReqid)
	b.set(out, sets.OutReqid)
}

// dispatch are the elements of a tunnel's own reqids.
func (b *builder) dispatch(prefixes []firewall.RestrictedPrefix, chain, tunnel string) []sets.Element {
	var elements []sets.Element
	for _, p := range prefixes {
		if !b.isSharedReqid(p.SA.Reqid, tunnel) {
			elements = append(elements, sets.Element{
				Key: sets.Key(sets.AppendUint(nil, p.SA.Reqid)), Verdict: sets.Verdict{Do: sets.Jump, Chain: chain}, Comment: tunnel,
			})
		}
	}
	return elements
}

// serviceChain is a tunnel's chain: the cap of reachable prefixes, carriers of its
// overlays, replies, the services, and the end.
func (b *builder) serviceChain(r *firewall.Restriction, direction string, services []firewall.Service, end sets.Term) {
	var rules []sets.Rule
	log := func(word string) []sets.Rule { return b.logged(word + ":" + r.Name) }
	if direction == "out" && r.Remote != nil {
		b.capChain(r, log("remote"))
		rules = append(rules, rule("remote", jump(chainOf("cap", r))))
	}
	if services != nil {
		rules = append(rules, b.carrierRules(r, direction == "in")...)
		rules = append(rules, b.ownIPsec(direction == "in")...)
		rules = append(rules, rule("replies", replies, back))
		for _, s := range services {
			for _, terms := range service(s) {
				rules = append(rules, rule("service", append(terms, back)...))
			}
		}
		rules = append(rules, log(direction)...)
		rules = append(rules, rule("restricted", sets.Counter{}, end))
	}
	b.chain(chainOf(direction, r), "restriction of "+plainText(r.Name), rules...)
}

// ownIPsec passes this host's own IKE, ESP and AH: a tunnel may lie within another.
func (b *builder) ownIPsec(inbound bool) []sets.Rule {
	device, local, port, addr := sets.OutName, num(sets.FibSrcType, sets.Local), sets.UDPSrc, ipv4.src
	if inbound {
		device, local, port, addr = sets.InName, num(sets.FibDstType, sets.Local), sets.UDPDst, ipv4.dst
	}
	var first []sets.Term
	if len(b.f.WAN) > 0 {
		first = []sets.Term{named(device, b.f.WAN)}
	}
	rules := []sets.Rule{
		rule("IPsec", and(first, oneOf(sets.L4Proto, uint64(xfrm.ESP), uint64(xfrm.AH)), local, back)...),
		rule("IKE", and(first, oneOf(port, firewall.IKE, firewall.NATT), local, back)...),
	}
	for _, at := range b.f.EncapPorts {
		k := addr
		switch {
		case at.Addr().Is4():
		case inbound:
			k = ipv6.dst
		default:
			k = ipv6.src
		}
		rules = append(rules, rule("ESP in UDP", and(first, sets.Equals(k, sets.Addr(at.Addr())), num(port, uint64(at.Port())), back)...))
	}
	return rules
}

// capChain refuses packets beyond the prefixes that a tunnel may reach.
func (b *builder) capChain(r *firewall.Restriction, log []sets.Rule) {
	rules := b.ownIPsec(false)
	for _, p := range r.Remote {
		match := []sets.Term{num(sets.NFProto, familyNumber(p.Addr().Is4()))}
		if p.Bits() > 0 {
			match = []sets.Term{within(destination(p.Addr().Is4()), p)}
		}
		rules = append(rules, rule("remote", append(match, back)...))
	}
	rules = append(rules, log...)
	b.chain(chainOf("cap", r), "cap of "+plainText(r.Name), append(rules, rule("restricted", sets.Counter{}, sets.Reject{With: sets.AdminProhibited}))...)
}

func familyNumber(is4 bool) uint64 {
	if is4 {
		return uint64(xfrm.IPv4)
	}
	return uint64(xfrm.IPv6)
}

// carrierRules pass the packets that carry an overlay device's, and those that carry small
// ones beside IPComp: the inner packets are restricted.
func (b *builder) carrierRules(r *firewall.Restriction, inbound bool) []sets.Rule {
	var rules []sets.Rule
	for i := range r.Overlays {
		o := &r.Overlays[i]
		if o.VTI || !o.Remote.IsValid() {
			continue
		}
		f := &ipv6
		if o.Remote.Is4() {
			f = &ipv4
		}
		v := f.to()
		if inbound {
			v = f.from()
		}
		match := []sets.Term{
			sets.Equals(v.remote, sets.Addr(o.Remote)), sets.Equals(v.local, sets.Addr(o.Local)), num(sets.L4Proto, uint64(o.Proto)),
		}
		if o.Port != 0 {
			match = append(match, num(sets.DstPort, uint64(o.Port)))
		}
		rules = append(rules, rule("carrier", append(match, back)...))
	}
	for i := range b.f.IPComp {
		c := &b.f.IPComp[i]
		if !inbound || c.Tunnel != r.Tunnel {
			continue
		}
		f := &ipv6
		if c.Remote.Is4() {
			f = &ipv4
		}
		v := f.from()
		rules = append(rules, rule("carrier", sets.Equals(v.remote, sets.Addr(c.Remote)), sets.Equals(v.local, sets.Addr(c.Local)), num(sets.L4Proto, uint64(f.inIP)), back))
	}
	return rules
}

// plainText leaves out of a name the bytes that a comment can't hold.
func plainText(name string) string {
	name = strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return '_'
		}
		return c
	}, name)
	return name[:min(len(name), 100)]
}
