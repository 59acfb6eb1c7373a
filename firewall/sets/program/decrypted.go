package program

import (
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// decryptedPackets lays out pre's rules for packets that came out of an SA: it
// drops them unless a tunnel of their reqid has them in its selectors. VERIFIED is
// set later, behind other programs' rules: no bit of ours is on a packet while it
// is routed, so that no routing rule matches it.
func (b *builder) decryptedPackets(f *family, r *relations) {
	s := f.suffix
	if f == &ipv4 {
		b.confirmed()
	}
	var pol []sets.Rule
	for depth := range uint8(2) {
		pol = append(pol, each("case 2: no bit may be on the packet", r.bare.lookups(f, f.from().at(depth)), b.clearBits(b.f.Marks.Both()), back)...)
	}
	pol = append(pol, b.carriers(f)...)
	for depth := range uint8(2) {
		pol = append(pol, each("case 1", r.claims.lookups(f, f.from().at(depth)), leadTo("confirmed"))...)
	}
	pol = append(pol, b.ipcomp(f, r, leadTo("confirmed"))...)
	pol = append(pol, rule("case 1b", oneOf(f.errorType, f.errors...), related, jump("related"+s)))
	for depth := range uint8(maxDepth) {
		pol = append(pol, rule("case 7", sets.In{Fields: []sets.Field{sets.F(sets.InReqid).At(depth)}, Set: "known"}, leadTo("drop_crossed")))
	}
	for _, o := range r.owners {
		pol = append(pol, rule("case 7b: a live tunnel owns the source", append(o.owned(f), leadTo("drop_crossed"))...))
	}
	pol = append(pol,
		rule("case 7b: counted, left unverified", sets.Update{Fields: field(sets.InReqid), Set: "unknown"}),
		rule("case 7b", leadTo("done")))
	b.chain("pol"+s, "cases 1 to 3 and 7: decrypted packets", pol...)
	b.relatedChain(f, r)
}

// confirmed lays out the rules for packets that a tunnel claims.
func (b *builder) confirmed() {
	rules := []sets.Rule{
		rule("case 1", b.isTagged(), leadTo("done")),
		rule("cases 2 and 3: counted by reqid", sets.Update{Fields: field(sets.InReqid), Set: "untagged"}),
	}
	if b.f.Enforce {
		rules = append(rules,
			rule("case 2", sets.In{Fields: field(sets.InReqid), Set: "untaggable"}, leadTo("done")),
			rule("case 3", leadTo("drop_unconfirmed")))
	}
	b.chain("confirmed", "cases 1 to 3: packets that a tunnel claims", append(rules, rule("", leadTo("done")))...)
	b.chain("done", "no bit crosses a routing decision", rule("", b.clearBits(b.uncrossing())))
}

// uncrossing are the bits that cross no routing decision: both, but where the rules of the
// iptables engine look at TAG behind it.
func (b *builder) uncrossing() uint32 {
	if b.options.BesideRules {
		return b.verified()
	}
	return b.f.Marks.Both()
}

// relatedChain lays out case 1b: an ICMP error about a tunnel's own flow. It comes
// from any router, but not from one that lies behind another live tunnel.
func (b *builder) relatedChain(f *family, r *relations) {
	s := f.suffix
	var rules []sets.Rule
	for depth := range uint8(2) {
		rules = append(rules, each("case 1b: the remote end began the flow", r.claims.lookups(f, f.began().at(depth)), leadTo("owner"+s))...)
		rules = append(rules, each("case 1b: the remote end answers", r.claims.lookups(f, f.answered().at(depth)), leadTo("owner"+s))...)
	}
	b.chain("related"+s, "case 1b: ICMP errors about a tunnel's flow", rules...)
	var owner []sets.Rule
	for _, o := range r.owners {
		for depth := range uint8(2) {
			owner = append(owner, rule("case 1b", o.own(f, depth), leadTo("errors"+s)))
		}
		owner = append(owner, rule("another live tunnel owns the source", append(o.owned(f), leadTo("drop_crossed"))...))
	}
	b.chain("owner"+s, "case 1b: sources of live tunnels, the longest prefix first", append(owner, rule("case 1b", leadTo("errors"+s)))...)
	var errors []sets.Rule
	if b.f.Enforce {
		errors = append(errors, rule("case 7: without TAG, where it could be had", sets.NoBit(sets.Mark, uint64(b.tag())),
			sets.In{Fields: field(sets.InReqid), Not: true, Set: "untaggable"}, leadTo("drop_crossed")))
	}
	b.chain("errors"+s, "case 1b: let through", append(errors, rule("case 1b", sets.Counter{}, leadTo("accepted")))...)
	if f == &ipv4 {
		// An accept ends this base chain alone, and with it the look at the packet.
		b.chain("accepted", "ends pre", rule("", b.clearBits(b.uncrossing()), sets.Verdict{Do: sets.Accept}))
	}
}

// carriers binds packets that carry an overlay device's to the tunnel that protects
// them: the inner packets are accepted on the device's name.
func (b *builder) carriers(f *family) []sets.Rule {
	carrier, carried := relation{name: "carrier", comment: "case 4: carriers of overlays", withSA: true, counter: true, opens: true}, relation{name: "carried", comment: "case 7: carriers of overlays, out of any SA"}
	var mine, all []pair
	for i := range b.f.Overlays {
		o := &b.f.Overlays[i]
		if o.VTI || !f.has(o.Remote) {
			continue
		}
		p := pair{remote: single(o.Remote), local: single(o.Local), proto: o.Proto, comment: o.Devices[0]}
		if o.Port != 0 {
			p.lport = ports{o.Port, o.Port}
		}
		all = append(all, p)
		if o.Below == nil {
			p.reqid, p.comment = o.In.Reqid, o.Tunnel
			p.outer = o.In.Src
			mine = append(mine, p)
		}
	}
	rules := each("case 4: carries an overlay", b.relate(carrier, f, mine).lookups(f, f.from()), leadTo("confirmed"))
	rules = append(rules, each("case 7: carries an overlay of another tunnel", b.relate(carried, f, all).lookups(f, f.from()), leadTo("drop_crossed"))...)
	for _, o := range b.openCarriers(f) {
		rules = append(rules, rule("case 7: carries an overlay, from a stranger to it", append(o, leadTo("drop_crossed"))...))
	}
	return rules
}

// openCarriers match the carriers of devices that take any.
func (b *builder) openCarriers(f *family) [][]sets.Term {
	var all [][]sets.Term
	for _, o := range b.f.OpenDevices {
		to := []sets.Term{num(sets.L4Proto, uint64(o.Proto))}
		if o.Port != 0 {
			to = append(to, num(sets.DstPort, uint64(o.Port)))
		}
		switch {
		case !o.Local.IsValid():
			to = append(to, num(sets.FibDstType, sets.Local))
		case f.has(o.Local):
			to = append([]sets.Term{sets.Equals(f.dst, sets.Addr(o.Local))}, to...)
		default:
			continue
		}
		all = append(all, to)
	}
	return all
}

// strayCarriers drops carriers of an overlay device that came out of another device
// than the one below it.
func (b *builder) strayCarriers(f *family) []sets.Rule {
	var rules []sets.Rule
	for i := range b.f.Overlays {
		o := &b.f.Overlays[i]
		if o.VTI || !f.has(o.Remote) {
			continue
		}
		match := []sets.Term{inClear, b.isVerified(), sets.Equals(f.src, sets.Addr(o.Remote)), sets.Equals(f.dst, sets.Addr(o.Local))}
		if o.Port != 0 {
			match = append(match, num(sets.L4Proto, uint64(o.Proto)), num(sets.DstPort, uint64(o.Port)))
		} else {
			match = append(match, num(sets.L4Proto, uint64(o.Proto)))
		}
		if len(o.Below) > 0 {
			not := named(sets.InName, o.Below).(sets.OneOf)
			not.Not = true
			match = and([]sets.Term{not}, match...)
		}
		rules = append(rules, rule("case 7: carries an overlay, from the wrong device", and(match, leadTo("drop_crossed"))...))
	}
	return append(rules, b.strayOpenCarriers(f)...)
}

// strayOpenCarriers drop verified carriers of devices that take any carrier, if they
// belong to no overlay.
func (b *builder) strayOpenCarriers(f *family) []sets.Rule {
	open := b.openCarriers(f)
	if len(open) == 0 {
		return nil
	}
	var spared []sets.Rule
	for i := range b.f.Overlays {
		o := &b.f.Overlays[i]
		if !o.VTI && f.has(o.Remote) {
			match := []sets.Term{sets.Equals(f.src, sets.Addr(o.Remote)), sets.Equals(f.dst, sets.Addr(o.Local)), num(sets.L4Proto, uint64(o.Proto))}
			if o.Port != 0 {
				match = append(match, num(sets.DstPort, uint64(o.Port)))
			}
			spared = append(spared, rule("of an overlay", append(match, back)...))
		}
	}
	b.chain("astray"+f.suffix, "case 7: carriers of devices that take any", append(spared, rule("case 7", leadTo("drop_crossed")))...)
	var rules []sets.Rule
	for _, o := range open {
		rules = append(rules, rule("case 7: carries an overlay, from a stranger to it", and([]sets.Term{inClear, b.isVerified()}, append(o, jump("astray"+f.suffix))...)...))
	}
	return rules
}

// ipcomp finds the carriers of small packets beside IPComp (case 1c).
func (b *builder) ipcomp(f *family, r *relations, then sets.Term) []sets.Rule {
	var rules []sets.Rule
	for _, l := range r.ipcomp.lookups(f, f.from()) {
		rules = append(rules, rule("case 1c", and([]sets.Term{num(sets.L4Proto, uint64(f.inIP))}, append(l, then)...)...))
	}
	return rules
}

// carriersBesideIPComp makes the relation of case 1c.
func (b *builder) carriersBesideIPComp(f *family) *relation {
	var pairs []pair
	for i := range b.f.IPComp {
		if c := &b.f.IPComp[i]; f.has(c.Remote) {
			pairs = append(pairs, pair{reqid: c.In.Reqid, remote: single(c.Remote), local: single(c.Local), comment: c.Tunnel})
		}
	}
	return b.relate(relation{name: "ipcomp", comment: "case 1c: small packets beside IPComp", withSA: true, opens: true}, f, pairs)
}
