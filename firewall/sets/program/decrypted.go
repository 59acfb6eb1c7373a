package program

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// maxDepth is how many SAs a packet may have come out of (XFRM_MAX_DEPTH is 6, and
// a policy match of iptables knows four).
const maxDepth = 4

// decryptedPackets lays out what pre does with packets that came out of an SA: it
// drops them unless a tunnel of their reqid has them in its selectors. VERIFIED is
// set later, behind other programs' rules: no bit of ours is on a packet while it
// is routed, so that no routing rule minds it.
func (b *builder) decryptedPackets(f *family, r *relations) {
	s := f.suffix
	if f == &ipv4 {
		b.confirmed()
	}
	var pol []sets.Rule
	for depth := range uint8(2) {
		pol = append(pol, each("case 2: no bit may be on the packet", r.bare.lookups(f, f.from().at(depth)), leadTo("done"))...)
	}
	pol = append(pol, b.carriers(f)...)
	for depth := range uint8(2) {
		pol = append(pol, each("case 1", r.claims.lookups(f, f.from().at(depth)), leadTo("confirmed"))...)
	}
	pol = append(pol, b.ipcomp(f)...)
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

// confirmed lays out what becomes of packets that a tunnel claims.
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
	b.chain("done", "no bit crosses a routing decision", rule("", b.clearBits(b.f.Marks.Both())))
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
	b.chain("errors"+s, "case 1b: let through", rule("case 1b", sets.Counter{}, leadTo("accepted")))
	if f == &ipv4 {
		// An accept ends this base chain alone, and with it the look at the packet.
		b.chain("accepted", "ends pre", rule("", b.clearBits(b.f.Marks.Both()), sets.Verdict{Do: sets.Accept}))
	}
}

// owners are the sources of live tunnels of one prefix length.
type owners struct {
	suffix string
	bits   int
}

// own matches packets out of an SA of the owner of their source, owned those whose
// source has an owner. A tunnel to everywhere owns all sources.
func (o owners) own(f *family, depth uint8) sets.Term {
	fields := []sets.Field{sets.F(sets.InReqid).At(depth)}
	if o.bits > 0 {
		fields = append(fields, sets.F(f.src).Masked(o.bits))
	}
	return sets.In{Fields: fields, Set: "own" + o.suffix}
}

func (o owners) owned(f *family) []sets.Term {
	if o.bits == 0 {
		return nil
	}
	return []sets.Term{sets.In{Fields: []sets.Field{sets.F(f.src).Masked(o.bits)}, Set: "owned" + o.suffix}}
}

// ownerSets adds two sets for each prefix length: sources with the reqid of their
// owner, and sources alone.
func (b *builder) ownerSets(f *family) []owners {
	by := make(map[int][]*firewall.Claim)
	for i := range b.f.Claims {
		c := &b.f.Claims[i]
		if !c.PolicyOnly && c.Live && f.has(c.Pair.Remote.Addr()) {
			by[c.Pair.Remote.Bits()] = append(by[c.Pair.Remote.Bits()], c)
		}
	}
	var all []owners
	for bits, claims := range by {
		o := owners{fmt.Sprintf("%s_%d", f.suffix, bits), bits}
		own := sets.Set{Name: "own" + o.suffix, Comment: "cases 1b and 7b"}
		owned := sets.Set{Name: "owned" + o.suffix, Comment: "cases 1b and 7b"}
		for _, c := range claims {
			source := sets.AppendAddr(nil, c.Pair.Remote.Addr())
			if bits == 0 {
				source = nil
			}
			own.Elements = append(own.Elements, sets.Element{Key: sets.Key(slices.Concat(sets.AppendUint(nil, c.In.Reqid), source))})
			owned.Elements = append(owned.Elements, sets.Element{Key: sets.Key(source)})
		}
		if bits > 0 {
			b.set(own, sets.InReqid, f.src)
			b.set(owned, f.src)
		} else {
			b.set(own, sets.InReqid)
		}
		all = append(all, o)
	}
	slices.SortFunc(all, func(x, y owners) int { return y.bits - x.bits })
	return all
}

// carriers binds packets that carry an overlay device's to the tunnel that protects
// them: the inner packets are accepted on the device's name.
func (b *builder) carriers(f *family) []sets.Rule {
	carrier, carried := relation{name: "carrier", withSA: true, opens: true}, relation{name: "carried"}
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
	return append(rules, each("case 7: carries an overlay of another tunnel", b.relate(carried, f, all).lookups(f, f.from()), leadTo("drop_crossed"))...)
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
	return rules
}

// ipcomp lets the carriers of small packets beside IPComp through (case 1c).
func (b *builder) ipcomp(f *family) []sets.Rule {
	var pairs []pair
	for i := range b.f.IPComp {
		if c := &b.f.IPComp[i]; f.has(c.Remote) {
			pairs = append(pairs, pair{reqid: c.In.Reqid, remote: single(c.Remote), local: single(c.Local), comment: c.Tunnel})
		}
	}
	r := b.relate(relation{name: "ipcomp", withSA: true, opens: true}, f, pairs)
	var rules []sets.Rule
	for _, l := range r.lookups(f, f.from()) {
		rules = append(rules, rule("case 1c", and([]sets.Term{num(sets.L4Proto, uint64(f.inIP))}, append(l, leadTo("confirmed"))...)...))
	}
	return rules
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// overlayDevices are the devices whose packets keep the evidence of their carrier,
// and the VTIs, whose packets carry TAG.
func (b *builder) overlayDevices() (carried, vtis []string) {
	for i := range b.f.Overlays {
		o := &b.f.Overlays[i]
		if o.VTI {
			vtis = append(vtis, o.Devices...)
		} else {
			carried = append(carried, o.Devices...)
		}
	}
	compact := func(names []string) []string {
		slices.SortFunc(names, strings.Compare)
		return slices.Compact(names)
	}
	return compact(carried), compact(vtis)
}
