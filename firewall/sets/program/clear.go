package program

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// clearPackets lays out the rules for packets in clear between the ends of a
// guarded pair. Exemptions are tested only after a guard has matched.
func (b *builder) clearPackets(f *family, r *relations) {
	s := f.suffix
	b.hits(f, r)
	// Before DNAT it is not known whether a packet is for this host, so an exception of
	// either direction holds.
	for _, place := range []struct {
		name, comment string
		direction
	}{
		{"early", "case 6, by the destination before NAT", both},
		{"spoof_in", "case 6, packets for this host", inbound},
		{"spoof_fwd", "case 6, forwarded packets", forwarded},
	} {
		var rules []sets.Rule
		if names := b.xfrmDevices(); len(names) > 0 {
			rules = append(rules, rule("out of an xfrm interface", named(sets.InName, names), back))
		}
		b.chain(place.name+s, place.comment, append(rules, b.judge(f, r, f.from(), "case 6", "spoof", place.direction)...)...)
	}
	b.chain("inject"+s, "case 6b", b.inject(f, r)...)
	b.chain("quoted"+s, "case 6, ICMP errors about a tunnel's flow", b.quoted(f, r)...)
	b.chain("leaving"+s, "case 8", b.leaving(f, r)...)
	b.chain("icmp_leak"+s, "case 8c, ICMP errors that quote a tunnel's packet", b.errors(f, r)...)
	b.chain("nated"+s, "case 8b, by the source before NAT", b.nated(f, r)...)
}

// direction says which exceptions hold at a place.
type direction struct {
	of func(exceptions) []*relation
	// early is true in pre, where packets do not have the marks of other programs yet:
	// there an exception holds with any mark.
	early bool
}

var (
	both      = direction{func(e exceptions) []*relation { return []*relation{e.in, e.fwd} }, true}
	outward   = direction{func(e exceptions) []*relation { return []*relation{e.out} }, true}
	inbound   = direction{func(e exceptions) []*relation { return []*relation{e.in} }, false}
	forwarded = direction{func(e exceptions) []*relation { return []*relation{e.fwd} }, false}
	outbound  = direction{func(e exceptions) []*relation { return []*relation{e.out} }, false}
)

// excepted lets the exceptions of a rank pass.
func excepted(k rank, f *family, v view, d direction) []sets.Rule {
	var rules []sets.Rule
	for _, e := range d.of(k.exceptions) {
		rules = append(rules, each("exception", e.lookups(f, v), back)...)
	}
	for _, m := range k.marked {
		var then []sets.Term
		if !d.early {
			then = append(then, sets.Match{Field: sets.F(sets.Mark), Mask: m.mark.Mask, Value: sets.Number(sets.F(sets.Mark).Type(), uint64(m.mark.Value))})
		}
		for _, e := range d.of(m.exceptions) {
			rules = append(rules, each("exception for a mark", e.lookups(f, v), append(then, back)...)...)
		}
	}
	return rules
}

// judge looks a packet up in the guards, in their order, and leads to the chain of a hit.
// Guards over connected networks have a chain of their own.
func (b *builder) judge(f *family, r *relations, v view, comment, hit string, d direction, more ...sets.Term) []sets.Rule {
	var rules []sets.Rule
	for _, k := range r.ranks {
		rules = append(rules, excepted(k, f, v, d)...)
		if hit == "leak" && v != f.to() { // before NAT, of a packet that an exception covers as it is
			rules = append(rules, excepted(k, f, f.to(), d)...)
		}
		rules = append(rules, each(comment, k.guards.lookups(f, v), and(more, leadTo("hit_"+hit+f.suffix))...)...)
		rules = append(rules, each(comment, k.beside.lookups(f, v), and(more, leadTo("hit_"+hit+"_lan"+f.suffix))...)...)
	}
	return rules
}

// inject looks up the guards of packets towards a tunnel that came in by an interface
// behind which their source does not live.
func (b *builder) inject(f *family, r *relations) []sets.Rule {
	var rules []sets.Rule
	if len(b.f.Asymmetric) > 0 {
		rules = append(rules, rule("guard.asymmetric", named(sets.InName, b.f.Asymmetric), back))
	}
	for _, k := range r.ranks {
		rules = append(rules, excepted(k, f, f.to(), outward)...)
		for _, g := range []*relation{k.guards, k.beside} {
			rules = append(rules, each("case 6b", g.lookups(f, f.to()), leadTo("hit_inject"+f.suffix))...)
		}
	}
	return rules
}

// quoted looks up the guards of the flow that an ICMP error in clear is about.
func (b *builder) quoted(f *family, r *relations) []sets.Rule {
	local := num(sets.FibDstType, sets.Local)
	rules := append(b.passedOn(), rule("own ESP and AH", local, oneOf(sets.CtProto, uint64(xfrm.ESP), uint64(xfrm.AH)), back))
	for _, end := range [][2]sets.FieldKind{{f.origSrc, sets.CtOrigSrcPort}, {f.origDst, sets.CtOrigDstPort}} {
		udp := num(sets.CtProto, uint64(xfrm.UDP))
		rules = append(rules,
			rule("own IKE", local, udp, oneOf(end[1], firewall.IKE, firewall.NATT), back),
			rule("own ESP in UDP", local, udp, sets.In{Fields: []sets.Field{sets.F(end[0]), sets.F(end[1])}, Set: "encap" + f.suffix}, back))
	}
	for _, v := range []view{f.began(), f.answered()} {
		rules = append(rules, b.judgeQuoted(f, r, v)...)
	}
	return rules
}

// judgeQuoted is judge for errors: the network that is spared is that of the flow.
func (b *builder) judgeQuoted(f *family, r *relations, v view) []sets.Rule {
	var rules []sets.Rule
	lan := sets.In{Fields: []sets.Field{sets.F(sets.InName), sets.F(v.remote)}, Set: "lan" + f.suffix}
	for _, k := range r.ranks {
		rules = append(rules, excepted(k, f, v, both)...)
		rules = append(rules, each("case 6", k.guards.lookups(f, v), leadTo("drop_spoof"))...)
		rules = append(rules, each("case 6, the tunnel's own peer", r.peers.lookups(f, v), leadTo("drop_spoof"))...)
		not := lan
		not.Not = true
		rules = append(rules, each("case 6, beside connected networks", k.beside.lookups(f, v), not, leadTo("drop_spoof"))...)
	}
	return rules
}

// leaving looks up the guards of a packet that leaves in clear.
func (b *builder) leaving(f *family, r *relations) []sets.Rule {
	rules := []sets.Rule{
		rule("case 8c", oneOf(f.errorType, f.errors...), jump("icmp_leak"+f.suffix)),
		rule("case 8b", sets.AnyBit(sets.CtStatus, sets.SNATed|sets.DNATed), jump("nated"+f.suffix)),
	}
	for i, k := range r.ranks {
		one := *r
		one.ranks = r.ranks[i : i+1]
		rules = append(rules, b.judge(f, &one, f.to(), "case 8", "leak", outbound)...)
		rules = append(rules, each("case 8d: no source is left to tell it by", k.down.lookups(f, f.to()), leadTo("hit_leak"+f.suffix))...)
		rules = append(rules, each("case 8d", k.downBeside.lookups(f, f.to()), leadTo("hit_leak_lan"+f.suffix))...)
	}
	return rules
}

// inside adds the set of networks behind interfaces where no stranger is, and returns its name.
func (b *builder) inside(f *family) string {
	s := sets.Set{Name: "inside" + f.suffix, Comment: "networks behind interfaces where no stranger is", Interval: true, Opens: true}
	s.Elements = networkElements(unowned(f, b.f.Inside))
	b.set(s, sets.OutName, f.src)
	return s.Name
}

// nated looks up the guards by the source that a flow had before NAT.
func (b *builder) nated(f *family, r *relations) []sets.Rule {
	var rules []sets.Rule
	for _, way := range []struct {
		source    sets.FieldKind
		direction uint64
	}{{f.origSrc, 0}, {f.replySrc, 1}} {
		v := f.to()
		v.local = way.source
		rules = append(rules, b.judge(f, r, v, "case 8b", "leak", outbound, num(sets.CtDirection, way.direction))...)
	}
	return rules
}

// errors looks up the guards of the packet that an ICMP error quotes. An error about
// no flow goes to no guarded network at all.
func (b *builder) errors(f *family, r *relations) []sets.Rule {
	var rules []sets.Rule
	lan := "hit_leak_lan" + f.suffix
	for _, k := range r.ranks {
		rules = append(rules, excepted(k, f, f.to(), outbound)...)
		rules = append(rules, each("case 8c: about no flow", k.remotes.lookups(f, f.to()), sets.NoBit(sets.CtState, sets.Related), leadTo(lan))...)
		for _, local := range []sets.FieldKind{f.origSrc, f.origDst, f.replySrc} {
			v := f.to()
			v.local = local
			for _, g := range []*relation{k.guards, k.beside, k.stripped} {
				for _, l := range g.plainLookups(f, v) {
					for _, peer := range r.strippedPeers.lookups(f, v) {
						rules = append(rules, rule("case 8c, the tunnel's own peer", and(and(l, peer...), leadTo("hit_leak"+f.suffix))...))
					}
					rules = append(rules, rule("case 8c", and(l, leadTo(lan))...))
				}
			}
		}
	}
	return rules
}

// plainLookups are the look-ups of pairs without protocol and ports, which an error
// does not have itself.
func (r *relation) plainLookups(f *family, v view) [][]sets.Term {
	plain := *r
	plain.sets = slices.DeleteFunc(slices.Clone(r.sets), func(s relationSet) bool {
		return s.shape.hasProto || s.shape.hasPorts || s.shape.hasType
	})
	return plain.lookups(f, v)
}

// hits lays out the exemptions of packets that a guard matched.
func (b *builder) hits(f *family, r *relations) {
	s := f.suffix
	arriving, departing := b.spared(f, true), b.spared(f, false)
	lan := func(name, addr sets.FieldKind) sets.Rule {
		return rule("connected network", sets.In{Fields: []sets.Field{sets.F(name), sets.F(addr)}, Set: "lan" + s}, back)
	}
	peer := func(v view, hit string) []sets.Rule {
		return each("the tunnel's own peer", r.peers.lookups(f, v), leadTo(hit+s))
	}
	b.chain("hit_spoof"+s, "case 6, after its exceptions", slices.Concat(b.passedOn(), arriving, []sets.Rule{rule("case 6", leadTo("drop_spoof"))})...)
	b.chain("hit_spoof_lan"+s, "case 6, beside connected networks",
		append(peer(f.from(), "hit_spoof"), lan(sets.InName, f.src), rule("", leadTo("hit_spoof"+s)))...)
	spared := append(b.passedOn(), b.never(f)...)
	if f == &ipv6 {
		spared = append(spared, neighbours(num(sets.FibDstType, sets.Local)))
	}
	spared = append(spared, rule("case 6b: the source lives elsewhere", sets.Missing(sets.FibSrcInput), leadTo("drop_inject")))
	b.chain("hit_inject"+s, "case 6b, after its exceptions", append(spared, b.fromNowhere(f, f.src)...)...)
	inner := sets.In{Fields: []sets.Field{sets.F(sets.OutName), sets.F(f.src)}, Set: b.inside(f)}
	leak := append([]sets.Rule{rule("stays behind its interface", inner, back)}, departing...)
	b.chain("hit_leak"+s, "case 8, after its exceptions", append(leak, rule("case 8", leadTo("tell_leak"+s)))...)
	b.chain("tell_leak"+s, "case 8",
		rule("the sender is told", original, sets.Update{Fields: refusedFlow(f.origSrc, f.dst), Set: "refused" + s}),
		rule("case 8", leadTo("drop_leak")))
	b.chain("hit_leak_lan"+s, "case 8, beside connected networks",
		append(peer(f.to(), "hit_leak"), lan(sets.OutName, f.dst), rule("", leadTo("hit_leak"+s)))...)
}

// never spares packets that no tunnel's site could send or get.
func (b *builder) never(f *family) []sets.Rule {
	var rules []sets.Rule
	for _, p := range f.neverSource {
		rules = append(rules, rule("never judged", within(f.src, netip.MustParsePrefix(p)), back))
	}
	for _, p := range f.neverDestination {
		rules = append(rules, rule("never judged", within(f.dst, netip.MustParsePrefix(p)), back))
	}
	return rules
}

// neighbours spares neighbour discovery, which never passes a router.
func neighbours(local sets.Term) sets.Rule {
	return rule("neighbour discovery", oneOf(sets.ICMPv6Type, 133, 134, 135, 136), local, back)
}

// spared spares packets that are never judged and those that this host itself needs before there
// are tunnels: its own IKE, ESP, AH and DHCP, and the discovery of neighbours. A packet that it
// forwards and to which NAT gives this host's source is not its own. The interface alone does
// not tell that: ESP around a forwarded packet still has that packet's.
func (b *builder) spared(f *family, arriving bool) []sets.Rule {
	rules := b.never(f)
	local, port, addr := num(sets.FibSrcType, sets.Local), sets.UDPSrc, f.src
	if arriving {
		local, port, addr = num(sets.FibDstType, sets.Local), sets.UDPDst, f.dst
	}
	if f == &ipv6 {
		rules = append(rules, neighbours(local))
	}
	if !arriving {
		passing := sets.Match{Field: sets.F(sets.InIndex), Op: sets.Neq, Value: sets.Number(sets.TypeIndex, 0)}
		rules = append(rules,
			rule("not this host's own", passing, sets.AnyBit(sets.CtStatus, sets.SNATed), original, leadTo("tell_leak"+f.suffix)),
			rule("not this host's own", passing, sets.AnyBit(sets.CtStatus, sets.DNATed), num(sets.CtDirection, 1), leadTo("tell_leak"+f.suffix)))
	}
	rules = append(rules,
		rule("own ESP and AH", oneOf(sets.L4Proto, uint64(xfrm.ESP), uint64(xfrm.AH)), local, back),
		rule("own IKE", oneOf(port, firewall.IKE, firewall.NATT), local, back))
	for _, at := range b.f.EncapPorts {
		if f.has(at.Addr()) {
			rules = append(rules, rule("own ESP in UDP", sets.Equals(addr, sets.Addr(at.Addr())), num(port, uint64(at.Port())), back))
		}
	}
	client, server := uint64(68), uint64(67)
	if f == &ipv6 {
		client, server = 546, 547
	}
	from, to := client, server
	if arriving {
		from, to = server, client
	}
	return append(rules, rule("own DHCP", num(sets.UDPSrc, from), num(sets.UDPDst, to), local, back))
}
