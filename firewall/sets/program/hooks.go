package program

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// hooks lays out the base chains.
func (b *builder) hooks(families []*family) {
	b.again(families)
	b.home(families)
	b.prerouting(families)
	b.input(families)
	b.forward(families)
	b.output(families)
	b.postrouting(families)
	b.nat(families)
}

// again sets VERIFIED on packets out of known SAs and clears it from all others.
// Everything of a known reqid that is no tunnel's own was dropped in pre. At this
// priority no foreign rule can wipe or restore the bit any more.
func (b *builder) again(families []*family) {
	var rules []sets.Rule
	for _, f := range families {
		for depth := range uint8(2) {
			rules = append(rules, each("case 2: no bit may be on the packet", b.of[f].bare.lookups(f, f.from().at(depth)), b.clearBits(b.verified()), back)...)
		}
	}
	for depth := range uint8(maxDepth) {
		rules = append(rules, rule("cases 1 to 3", sets.In{Fields: []sets.Field{sets.F(sets.InReqid).At(depth)}, Set: "known"}, b.setBits(b.verified()), back))
	}
	b.chain("again", "VERIFIED where the SA is known, and nowhere else", append(rules, rule("case 7b", b.clearBits(b.verified())))...)
}

// loopback spares packets that this host sends to itself.
func loopback(k sets.FieldKind) sets.Rule { return rule("", num(k, 1), back) }

// arriveByDevice lets packets out of tunnel devices keep the evidence of their
// carrier (case 4): VERIFIED, or TAG on a VTI. The security path is gone there.
//
// Where sources are told, the source's element counts a packet for its tunnel. Other
// packets keep no bit and are in clear for all that follows, errors about flows with such a
// source apart. Where no source is told, the device's element counts.
func (b *builder) arriveByDevice(families []*family) []sets.Rule {
	carried, vtis := b.overlayDevices()
	either := sets.AnyBit(sets.Mark, uint64(b.f.Marks.Both()))
	untold := b.untold()
	if len(untold) > 0 {
		b.set(sets.Set{Name: "overlaid", Comment: "case 4: packets out of devices of any source", Dynamic: true, Counter: true, Size: 4096}, sets.InName)
	}
	var rules []sets.Rule
	for _, d := range []struct {
		comment string
		names   []string
		has     sets.Term
	}{{"case 4: out of a VTI", vtis, either}, {"case 4: out of an overlay", carried, b.isVerified()}} {
		var open, told []string
		for _, name := range d.names {
			if untold[name] {
				open = append(open, name)
			} else {
				told = append(told, name)
			}
		}
		if len(open) > 0 {
			counted := sets.Update{Fields: field(sets.InName), Set: "overlaid"}
			rules = append(rules, rule(d.comment, named(sets.InName, open), inClear, d.has, counted, back))
		}
		for _, f := range families {
			if len(told) == 0 {
				break
			}
			of := func(k sets.FieldKind, more ...sets.Term) sets.Rule {
				from := sets.In{Fields: []sets.Field{sets.F(sets.InName), sets.F(k)}, Set: outOf(f)}
				return rule(d.comment, append(and([]sets.Term{named(sets.InName, told), inClear, d.has}, more...), from, back)...)
			}
			icmp := num(sets.L4Proto, uint64(f.icmp()))
			rules = append(rules, of(f.src), of(f.origSrc, icmp, related), of(f.replySrc, icmp, related))
		}
	}
	return rules
}

// verifyByDevice turns TAG on packets out of a VTI to VERIFIED.
func (b *builder) verifyByDevice() []sets.Rule {
	_, vtis := b.overlayDevices()
	if len(vtis) == 0 {
		return nil
	}
	return []sets.Rule{rule("case 4: out of a VTI", named(sets.InName, vtis), inClear, b.isTagged(), b.setBits(b.verified()))}
}

// unverify clears VERIFIED from packets that did not come out of a tunnel.
func (b *builder) unverify() sets.Rule {
	carried, vtis := b.overlayDevices()
	terms := []sets.Term{b.isVerified(), inClear}
	if names := append(carried, vtis...); len(names) > 0 {
		not := named(sets.InName, names).(sets.OneOf)
		not.Not = true
		terms = append(terms, not)
	}
	return rule("case 5", append(terms, jump("unverify"))...)
}

// gated leads packets of the guarded prefixes to guards.
func gated(f *family, k sets.FieldKind, gates []netip.Prefix, comment string, then ...sets.Term) []sets.Rule {
	var rules []sets.Rule
	for _, g := range gates {
		first := []sets.Term{f.is()}
		if g.Bits() > 0 {
			first = []sets.Term{within(k, g)}
		}
		rules = append(rules, rule(comment, and(first, then...)...))
	}
	return rules
}

func (b *builder) prerouting(families []*family) {
	rules := []sets.Rule{loopback(sets.InIndex)}
	for _, f := range families {
		rules = append(rules, b.strayCarriers(f)...)
	}
	rules = append(rules, b.arriveByDevice(families)...)
	for _, f := range families {
		rules = append(rules, rule("cases 1 to 3 and 7", decrypted, f.is(), leadTo("pol"+f.suffix)))
	}
	rules = append(rules, rule("case 5", sets.AnyBit(sets.Mark, uint64(b.f.Marks.Both())), jump("stray")))
	for _, f := range families {
		gates := b.of[f].gates
		if len(gates) == 0 {
			continue
		}
		rules = append(rules, rule("case 6", oneOf(f.errorType, f.errors...), related, jump("quoted"+f.suffix)))
		rules = append(rules, gated(f, f.src, gates, "case 6", jump("early"+f.suffix))...)
		rules = append(rules, gated(f, f.dst, gates, "case 6b", jump("inject"+f.suffix))...)
	}
	b.base("pre", "arriving packets, before other programs", sets.Base{Type: sets.Filter, Hook: sets.Prerouting, Priority: -160}, rules...)
	if b.f.PacketOffload {
		// The kernel drops the security path before FORWARD.
		b.base("offload", "packet offload: behind other programs' mangle rules", sets.Base{Type: sets.Filter, Hook: sets.Prerouting, Priority: 10},
			loopback(sets.InIndex),
			rule("cases 1 to 3", decrypted, leadTo("again")),
			b.unverify())
	}
}

func (b *builder) input(families []*family) {
	// A VTI's TAG is that of the packet's own SA, so it is looked at before ESP within
	// it is tagged.
	rules := append([]sets.Rule{loopback(sets.InIndex)}, b.verifyByDevice()...)
	rules = append(rules, b.tagging(families)...)
	rules = append(rules, rule("cases 1 to 3", decrypted, jump("again")), b.unverify())
	for _, f := range families {
		rules = append(rules, gated(f, f.src, b.of[f].gates, "case 6", b.unverified(), inClear, jump("spoof_in"+f.suffix))...)
	}
	rules = append(rules, b.restrictedIn()...)
	rules = append(rules, b.lockdown(families)...)
	b.base("input_", "before filter: TAG and VERIFIED", sets.Base{Type: sets.Filter, Hook: sets.Input, Priority: -5}, rules...)
}

// tagging sets TAG on outer packets of any SA. SAs that a tagged
// packet would not find are spared, by address.
func (b *builder) tagging(families []*family) []sets.Rule {
	local := num(sets.FibDstType, sets.Local)
	rules := []sets.Rule{
		rule("TAG", oneOf(sets.L4Proto, uint64(xfrm.ESP), uint64(xfrm.AH)), jump("tag_")),
		rule("TAG", num(sets.UDPDst, firewall.NATT), local, jump("tag_")),
	}
	var spared []sets.Rule
	for _, f := range families {
		encap := sets.Set{Name: "encap" + f.suffix, Comment: "ports of ESP in UDP besides 4500"}
		for _, at := range b.f.EncapPorts {
			if f.has(at.Addr()) {
				encap.Elements = append(encap.Elements, sets.Element{Key: sets.KeyOf(sets.Addr(at.Addr()), sets.Number(sets.TypePort, uint64(at.Port())))})
			}
		}
		b.set(encap, f.dst, sets.UDPDst)
		rules = append(rules, rule("TAG", sets.In{Fields: []sets.Field{sets.F(f.dst), sets.F(sets.UDPDst)}, Set: encap.Name}, jump("tag_")))
		// The packet inside comes out of no other outer packet than this one.
		rules = append(rules, b.ipcomp(f, b.of[f], jump("tag_"))...)
		var pairs []pair
		for i := range b.f.Untagged {
			o := &b.f.Untagged[i]
			if !f.has(o.Peer) {
				continue
			}
			p := pair{remote: single(o.Peer), local: single(o.Local), proto: o.Proto, comment: o.Tunnel}
			if o.Port != 0 {
				p.lport = ports{o.Port, o.Port}
			}
			pairs = append(pairs, p)
		}
		spare := b.relate(relation{name: "spared", comment: "outer packets without TAG", opens: true}, f, pairs)
		spared = append(spared, each("no bit may be on the packet", spare.lookups(f, f.from()), b.clearBits(b.f.Marks.Both()), back)...)
	}
	b.chain("tag_", "outer packets", append(spared, rule("TAG", sets.Counter{}, b.setBits(b.tag())))...)
	return rules
}

func (b *builder) forward(families []*family) {
	rules := b.verifyByDevice()
	rules = append(rules, rule("cases 1 to 3", decrypted, jump("again")))
	if !b.f.PacketOffload {
		rules = append(rules, b.unverify())
	}
	for _, f := range families {
		rules = append(rules, gated(f, f.src, b.of[f].gates, "case 6", inClear, b.unverified(), jump("spoof_fwd"+f.suffix))...)
	}
	rules = append(rules, rule("case 6b, behind DNAT", encrypted, inClear, b.unverified(),
		sets.AnyBit(sets.CtStatus, sets.DNATed), original, sets.Missing(sets.FibSrcInput), jump("mapped")))
	b.mapped()
	for _, f := range families {
		rules = append(rules, b.fromNowhere(f, f.src, encrypted, b.unverified(), sets.AnyBit(sets.CtStatus, sets.DNATed), original)...)
	}
	rules = append(rules, b.refusals(families)...)
	rules = append(rules, b.restrictedIn()...)
	rules = append(rules, b.restrictedOut()...)
	rules = append(rules, b.mss(false)...)
	rules = append(rules, b.admit(families)...)
	rules = append(rules, b.lockdown(families)...)
	b.base("forward_", "before filter: VERIFIED, and packets that DNAT led here", sets.Base{Type: sets.Filter, Hook: sets.Forward, Priority: -5}, rules...)
}

// mapped spares packets out of tunnel devices and from networks with other ways
// back.
func (b *builder) mapped() {
	var rules []sets.Rule
	if names := append(b.xfrmDevices(), b.f.Asymmetric...); len(names) > 0 {
		rules = append(rules, rule("another way back", named(sets.InName, names), back))
	}
	b.chain("mapped", "case 6b: packets that DNAT leads into a tunnel", append(rules, rule("case 6b", leadTo("drop_inject")))...)
}

// refusals reject flows that leaked behind all NAT a moment ago, so that their senders get an ICMP error. Other flows
// between the same addresses may be spared, such as IKE with a peer whose tunnel is down.
func (b *builder) refusals(families []*family) []sets.Rule {
	var rules []sets.Rule
	for _, f := range families {
		flow := sets.In{Fields: refusedFlow(f.src, f.dst), Set: "refused" + f.suffix}
		rules = append(rules, gated(f, f.dst, b.of[f].gates, "case 8", leaves, flow, leadTo("drop_refuse"))...)
	}
	return rules
}

// refusedFlow tells a flow from others between its addresses. The place of the source port has the type of a message of
// ICMP, and behind it is a checksum.
func refusedFlow(src, dst sets.FieldKind) []sets.Field {
	return []sets.Field{sets.F(src), sets.F(dst), sets.F(sets.L4Proto), sets.F(sets.SrcPort)}
}

// admit sets VERIFIED on packets that may go into a tunnel, for the rule that accepts them.
// A packet out of another tunnel is no stranger (case 8e), though it may come without the bits.
func (b *builder) admit(families []*family) []sets.Rule {
	var rules []sets.Rule
	if len(b.f.Strangers) > 0 {
		for _, f := range families {
			for depth := range uint8(2) {
				for _, out := range b.of[f].bare.lookups(f, f.from().at(depth)) {
					rules = append(rules, b.entering("case 2: may enter a tunnel", out...)...)
				}
			}
		}
	}
	rules = append(rules, b.strangerFlows()...)
	return append(rules, b.entering("may enter a tunnel")...)
}

// entering sets VERIFIED on packets that go into a tunnel.
func (b *builder) entering(comment string, which ...sets.Term) []sets.Rule {
	rules := []sets.Rule{rule(comment, append(and(which, encrypted), b.setBits(b.verified()))...)}
	if names := b.deviceNames(); len(names) > 0 {
		rules = append(rules, rule(comment, append(and([]sets.Term{named(sets.OutName, names)}, which...), b.setBits(b.verified()))...))
	}
	return rules
}

func (b *builder) output(families []*family) {
	rules := append([]sets.Rule{loopback(sets.OutIndex)},
		rule("case 5", sets.AnyBit(sets.Mark, uint64(b.verified())), b.clearBits(b.verified())))
	rules = append(rules, b.refusals(families)...)
	rules = append(rules, b.restrictedOut()...)
	rules = append(rules, b.entering("may enter a tunnel")...)
	b.base("output_", "before filter: own packets", sets.Base{Type: sets.Filter, Hook: sets.Output, Priority: -5}, rules...)
}

func (b *builder) postrouting(families []*family) {
	rules := []sets.Rule{
		loopback(sets.OutIndex),
		rule("the pass behind the VRF decides", is(sets.OutKind, "vrf"), back),
	}
	rules = append(rules, b.strangers(families)...)
	rules = append(rules, b.mss(true)...)
	rules = append(rules, rule("encrypted", encrypted, back))
	if names := b.deviceNames(); len(names) > 0 {
		rules = append(rules, rule("the pass behind the tunnel device decides", named(sets.OutName, names), back))
	}
	for _, f := range families {
		rules = append(rules, gated(f, f.dst, b.of[f].gates, "case 8", jump("leaving"+f.suffix))...)
	}
	b.base("post", "behind all NAT: leaving packets", sets.Base{Type: sets.Filter, Hook: sets.Postrouting, Priority: 290}, rules...)
}

// nat keeps the source of packets that go into a tunnel. A flow that is bound to its own
// source passes all later NAT chains, those of other programs too.
func (b *builder) nat(families []*family) {
	var keep, exempt []sets.Rule
	for _, d := range b.f.Devices {
		if d.KeepNAT {
			keep = append(keep, rule("nat: keep", is(sets.OutName, d.Name), back))
		}
	}
	for _, f := range families {
		keep = append(keep, each("nat: keep", b.of[f].keep.lookups(f, f.to()), back)...)
		to := sets.SNAT{To: sets.F(f.src)}
		exempt = append(exempt, rule("exempt from NAT", f.is(), encrypted, to))
		if names := b.devices(func(d firewall.Device) bool { return !d.KeepNAT }); len(names) > 0 {
			exempt = append(exempt, rule("exempt from NAT", f.is(), named(sets.OutName, names), to))
		}
	}
	b.base("nat", "before all NAT: keeps tunnel traffic from it", sets.Base{Type: sets.NAT, Hook: sets.Postrouting, Priority: -190}, append(keep, exempt...)...)
}
