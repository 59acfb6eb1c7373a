package firewall

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// mangle builds the classification. It stands in PREROUTING, where the security
// path is surely still on the packet and no other program's rule has run;
// tagging stands in INPUT, where transit ESP never comes.
func (b *builder) mangle() {
	m := b.Config.Marks
	anyPolicy := PolicyMatch{Dir: PolicyIn}

	pre := []Rule{{In: "lo", Target: Target{Verb: Return}, Purpose: PurposeExempt}}
	pre = append(pre, b.overlayRules()...)
	pre = append(pre,
		Rule{Policy: anyPolicy, Target: Target{Verb: Goto, Chain: chainPol}, Purpose: PurposeDispatch},
		Rule{Mark: MarkMatch{Mask: m.Both(), Not: true}, Target: Target{Verb: Jump, Chain: chainStray}, Purpose: PurposeDispatch},
		Rule{Target: Target{Verb: Goto, Chain: chainInject}, Purpose: PurposeDispatch},
	)
	b.chain(Mangle, chainPre, pre...)
	b.chain(Mangle, chainStray, Rule{Target: setMark(0, m.Both()), Purpose: PurposeStray})
	b.hook(Mangle, "PREROUTING", chainPre)

	in := []Rule{{In: "lo", Target: Target{Verb: Return}, Purpose: PurposeExempt}}
	in = append(in, b.tagDispatch()...)
	in = append(in, b.recheck(true)...)
	in = append(in, b.ownTraffic(false)...)
	toSpoof := Rule{Target: Target{Verb: Goto, Chain: chainSpoof}, Purpose: PurposeDispatch}
	b.chain(Mangle, chainIn, append(in, toSpoof)...)
	b.hook(Mangle, "INPUT", chainIn)
	b.chain(Mangle, chainFwd, append(b.recheck(false), toSpoof)...)
	b.hook(Mangle, "FORWARD", chainFwd)

	b.tagging()
	b.classification()
	b.mss()
	b.guards()
	b.dropChains()
}

// overlayRules let the packets of tunnel devices keep the evidence of their
// carrier. On a VTI that is TAG, set on the ESP packet, and becomes VERIFIED.
// What shows a security path did not come out of the device: a VRF above it
// carries policy tunnels' packets too, and they are judged as such.
func (b *builder) overlayRules() []Rule {
	m := b.Config.Marks
	noPath := PolicyMatch{Dir: PolicyIn, None: true}
	var rules []Rule
	for _, o := range b.overlays {
		id := b.Set.Tunnels[o.tunnel].ID
		for _, name := range o.devices {
			if o.vti {
				rules = append(rules, Rule{
					In: name, Mark: has(m.Tag), Policy: noPath, Target: b.markVerified(), Purpose: PurposeDispatch, Tunnel: id,
				})
			}
			rules = append(rules, Rule{
				In: name, Mark: has(m.Verified), Policy: noPath, Target: Target{Verb: Return}, Purpose: PurposeOverlay, Tunnel: id,
			})
		}
	}
	return rules
}

// recheck clears VERIFIED where the kernel knows of no state: another program's
// CONNMARK restore, which runs after our PREROUTING, would bring it back to the
// flow's cleartext packets. What is verified is left alone by the guards.
func (b *builder) recheck(input bool) []Rule {
	verified := has(b.Config.Marks.Verified)
	rules := []Rule{{Policy: PolicyMatch{Dir: PolicyIn}, Target: Target{Verb: Return}, Purpose: PurposeDone}}
	for _, o := range b.overlays {
		for _, name := range o.devices {
			rules = append(rules, Rule{In: name, Mark: verified, Target: Target{Verb: Return}, Purpose: PurposeDone})
		}
	}
	if b.packetOffload() && !input {
		// Such states' packets lose the security path before FORWARD.
		rules = append(rules, Rule{Mark: verified, Target: Target{Verb: Return}, Purpose: PurposeDone})
	} else {
		rules = append(rules, Rule{Mark: verified, Target: setMark(0, b.Config.Marks.Verified), Purpose: PurposeStray})
	}
	for _, name := range slices.Sorted(maps.Keys(b.devices)) {
		rules = append(rules, Rule{In: name, Target: Target{Verb: Return}, Purpose: PurposeExempt})
	}
	return rules
}

func (b *builder) packetOffload() bool {
	return slices.ContainsFunc(b.Set.Tunnels, func(t xfrm.Tunnel) bool {
		return slices.ContainsFunc(t.SAs, func(sa xfrm.SA) bool { return sa.Offload.Packet() })
	})
}

// encapPorts are the local addresses and ports, besides 4500, on which ESP in
// UDP arrives for inbound states of this outer family. Only the local end
// counts: the peer chooses its own.
func (b *builder) encapPorts() []netip.AddrPort {
	var found []netip.AddrPort
	for _, t := range b.Set.Tunnels {
		for _, sa := range t.SAs {
			if sa.Inbound && sa.Encap.Type == espInUDP && sa.Encap.DPort != natT && sa.Encap.DPort != 0 && sa.Family == b.family {
				found = append(found, netip.AddrPortFrom(sa.Dst, sa.Encap.DPort))
			}
		}
	}
	slices.SortFunc(found, netip.AddrPort.Compare)
	return slices.Compact(found)
}

const (
	ike      = 500
	natT     = 4500
	espInUDP = 2 // UDP_ENCAP_ESPINUDP
)

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
	for i, t := range b.Set.Tunnels {
		greedyPair := slices.ContainsFunc(t.Pairs, func(p xfrm.Pair) bool { return greedyPolicy(p, b.Host, m) })
		for _, sa := range t.SAs {
			if !sa.Inbound || sa.Family != b.family || !greedyPair && !greedy(sa.State, b.Host, m) {
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

// classification judges packets that came out of a state.
func (b *builder) classification() {
	m := b.Config.Marks
	verified := Rule{Mark: has(m.Verified), Target: Target{Verb: Return}, Purpose: PurposeDone}
	pol := []Rule{{Target: setMark(0, m.Verified), Purpose: PurposeReset}}
	pol = append(pol, b.policyOnlyRules()...)
	pol = append(pol,
		Rule{Target: Target{Verb: Jump, Chain: chainCarried}, Purpose: PurposeDispatch},
		Rule{Target: Target{Verb: Jump, Chain: chainSel}, Purpose: PurposeDispatch},
		Rule{Proto: xfrm.TCP, Mark: has(m.Verified), Target: Target{Verb: Jump, Chain: chainMSSIn}, Purpose: PurposeDispatch},
		verified,
		Rule{
			Proto: b.icmp(), Ct: CtMatch{State: CtRelated},
			Target: Target{Verb: Jump, Chain: chainRelated}, Purpose: PurposeDispatch,
		},
		verified,
		// A tunnel's own packets that none of its rules took: case 7.
		Rule{Target: Target{Verb: Jump, Chain: chainKnown}, Purpose: PurposeDispatch},
		// Case 7b, with VERIFIED for "no live tunnel owns the source" meanwhile.
		Rule{Target: b.markVerified(), Purpose: PurposeDispatch},
		Rule{Target: Target{Verb: Jump, Chain: chainOwner}, Purpose: PurposeDispatch},
		Rule{Mark: lacks(m.Verified), Target: drop(PurposeCrossed), Purpose: PurposeDispatch},
		Rule{Target: setMark(0, m.Verified), Purpose: PurposeUnknown},
	)
	b.chain(Mangle, chainPol, pol...)
	b.known()
	b.set.Chains = append(b.set.Chains, dispatch(Mangle, chainCarried, true, b.carrierEntries())...)
	b.set.Chains = append(b.set.Chains, dispatchAnyOrder(Mangle, chainSel, true, b.claimEntries())...)
	b.related()
}

func (b *builder) icmp() xfrm.Proto {
	if b.family == xfrm.IPv6 {
		return xfrm.ICMPv6
	}
	return xfrm.ICMP
}

// known drops what came out of a tunnel that we know and that none of its rules
// verified. It is reached by such packets only, so it need not be a tree; it is
// cut in pieces so that one tunnel more rewrites only a small chain.
func (b *builder) known() {
	const pieces = 64
	var reqids [pieces][]uint32
	for _, t := range b.Set.Tunnels {
		if !b.uncertain[t.Reqid] {
			at := t.Reqid % pieces
			reqids[at] = append(reqids[at], t.Reqid)
		}
	}
	var root []Rule
	for i, list := range reqids {
		if len(list) == 0 {
			continue
		}
		slices.Sort(list)
		name := fmt.Sprintf("%s-%d", chainKnown, i)
		root = append(root, Rule{Target: Target{Verb: Jump, Chain: name}, Purpose: PurposeDispatch})
		var rules []Rule
		for _, reqid := range slices.Compact(list) {
			rules = append(rules, Rule{
				Policy: PolicyMatch{Dir: PolicyIn, Reqid: reqid, HasReqid: true},
				Target: drop(PurposeCrossed), Purpose: PurposeDispatch,
			})
		}
		b.chain(Mangle, name, rules...)
	}
	b.chain(Mangle, chainKnown, root...)
}

// policyOnlyRules leave alone what may carry none of our bits, since the kernel
// would no longer find its policy. The filter table accepts it on policy alone.
func (b *builder) policyOnlyRules() []Rule {
	var rules []Rule
	for _, c := range b.claims {
		if !c.policyOnly || c.pair.Family() != b.family {
			continue
		}
		t := b.Set.Tunnels[c.tunnel]
		r := selectors(c.pair)
		r.Policy, r.Purpose, r.Tunnel = b.policyIn(t, b.family), PurposePolicyOnly, t.ID
		clearing := r
		clearing.Purpose, clearing.Target = PurposeReset, setMark(0, b.Config.Marks.Both())
		r.Target = Target{Verb: Return}
		rules = append(rules, clearing, r)
	}
	return rules
}

// claimEntries are the rules of cases 1, 1c, 2 and 3, by the source they are for.
func (b *builder) claimEntries() []entry {
	var entries []entry
	m := b.Config.Marks
	for _, c := range b.claims {
		if c.policyOnly || c.pair.Family() != b.family {
			continue
		}
		t := b.Set.Tunnels[c.tunnel]
		base := selectors(c.pair)
		base.Policy, base.Tunnel, base.Target = b.policyIn(t, b.family), t.ID, b.markVerified()
		tagged, untagged := base, base
		tagged.Mark, tagged.Purpose = has(m.Tag), PurposeVerified
		untagged.Mark, untagged.Purpose = lacks(m.Tag), b.untaggedPurpose(c.tunnel)
		entries = append(entries, entry{c.pair.Remote, []Rule{tagged, untagged}})
	}
	return append(entries, b.ipcompEntries()...)
}

// untaggedPurpose names the rule for packets without TAG: whether that is to be
// expected, or worth a second look. A tunnel that is down is judged by what its
// states will meet, so that its rules need no change when it comes up.
func (b *builder) untaggedPurpose(tunnel int) Purpose {
	r, t := b.result.Tunnels[tunnel], b.Set.Tunnels[tunnel]
	offloading := b.Host.ESP4Offload
	if t.Remote.IsValid() && !t.Remote.Is4() {
		offloading = b.Host.ESP6Offload
	}
	if r.Evidence == PolicyOnly || r.Evidence == NoEvidence && offloading {
		return PurposePolicyOnly
	}
	return PurposeUnconfirmed
}

// ipcompEntries verify the carrier of an uncompressed packet: under IPComp the
// kernel sends small ones as plain IP in IP inside ESP, and they pass the hooks
// as protocol 4 between the gateways before their payload appears.
func (b *builder) ipcompEntries() []entry {
	var entries []entry
	for _, t := range b.Set.Tunnels {
		if !t.Comp || !specified(t.Remote) || !specified(t.Local) || familyOf(t.Remote) != b.family {
			continue
		}
		r := Rule{
			Src: single(t.Remote), Dst: single(t.Local), Proto: b.ipInIP(), Policy: b.policyIn(t, b.family),
			Target: b.markVerified(), Purpose: PurposeIPComp, Tunnel: t.ID,
		}
		entries = append(entries, entry{single(t.Remote), []Rule{r}})
	}
	return entries
}

func (b *builder) ipInIP() xfrm.Proto {
	if b.family == xfrm.IPv6 {
		return xfrm.IPv6in
	}
	return xfrm.IPIP
}

func specified(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() }

// carrierEntries bind the packets that carry an overlay device's to the one
// tunnel that protects them: no other tunnel may verify them, however wide its
// selectors, as what they carry is accepted on the device's name alone. So what
// their tunnel does not verify is dropped at once, as crossed.
func (b *builder) carrierEntries() []entry {
	var entries []entry
	m := b.Config.Marks
	for _, o := range b.overlays {
		if o.vti || familyOf(o.remote) != b.family {
			continue
		}
		t := b.Set.Tunnels[o.tunnel]
		name := stableName(chainCarrier, o.devices[0])
		rule := Rule{Policy: b.policyIn(t, b.family), Target: b.markVerified(), Tunnel: t.ID}
		tagged, untagged := rule, rule
		tagged.Mark, tagged.Purpose = has(m.Tag), PurposeVerified
		untagged.Mark, untagged.Purpose = lacks(m.Tag), b.untaggedPurpose(o.tunnel)
		b.chain(Mangle, name, tagged, untagged,
			Rule{Mark: has(m.Verified), Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: t.ID},
			Rule{Target: drop(PurposeCrossed), Purpose: PurposeDispatch, Tunnel: t.ID},
		)
		to := Rule{
			Src: single(o.remote), Dst: single(o.local), Proto: o.proto,
			Target: Target{Verb: Goto, Chain: name}, Purpose: PurposeDispatch, Tunnel: t.ID,
		}
		if o.port != 0 {
			to.DPorts = Port(o.port)
		}
		entries = append(entries, entry{single(o.remote), []Rule{to}})
	}
	return entries
}

// related builds case 1b. Errors come from any router inside the tunnel, so the
// source says nothing by itself; but if it lies in the selectors of another
// live tunnel, its errors have to come out of that one.
func (b *builder) related() {
	var local, owner []entry
	for _, c := range b.claims {
		if c.pair.Family() != b.family || c.policyOnly {
			continue
		}
		t := b.Set.Tunnels[c.tunnel]
		policy := b.policyIn(t, b.family)
		// The flow that the error is about has to be the tunnel's own, whichever
		// end began it: a peer has no say in other peers' flows.
		about := Rule{Dst: c.pair.Local, Policy: policy, Target: b.markVerified(), Purpose: PurposeRelated, Tunnel: t.ID}
		began, replied := about, about
		began.Ct = CtMatch{State: CtRelated, OrigSrc: c.pair.Remote}
		replied.Ct = CtMatch{State: CtRelated, ReplSrc: c.pair.Remote}
		local = append(local, entry{c.pair.Local, []Rule{began, replied}})
		if len(t.SAs) > 0 {
			owner = append(owner, entry{c.pair.Remote, []Rule{
				{Src: c.pair.Remote, Policy: policy, Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: t.ID},
			}})
		}
	}
	b.chain(Mangle, chainRelated,
		Rule{Target: Target{Verb: Jump, Chain: chainRelatedTo}, Purpose: PurposeDispatch},
		Rule{Mark: has(b.Config.Marks.Verified), Target: Target{Verb: Goto, Chain: chainOwner}, Purpose: PurposeDispatch},
	)
	b.set.Chains = append(b.set.Chains, dispatchAnyOrder(Mangle, chainRelatedTo, false, local)...)
	b.set.Chains = append(b.set.Chains, dispatch(Mangle, chainOwner, true, b.closeOwners(owner))...)
}

// closeOwners orders the owners' rules, most specific first, and ends each
// prefix with the rule for packets of every other tunnel.
func (b *builder) closeOwners(owners []entry) []entry {
	slices.SortStableFunc(owners, func(x, y entry) int {
		return cmp.Or(cmp.Compare(y.key.Bits(), x.key.Bits()), x.key.Addr().Compare(y.key.Addr()))
	})
	var out []entry
	for i := 0; i < len(owners); {
		e := entry{key: owners[i].key}
		for ; i < len(owners) && owners[i].key == e.key; i++ {
			if !slices.Contains(e.rules, owners[i].rules[0]) {
				e.rules = append(e.rules, owners[i].rules[0])
			}
		}
		e.rules = append(e.rules, Rule{
			Src: e.key, Target: setMark(0, b.Config.Marks.Verified), Purpose: PurposeForeign,
		})
		// One prefix is decided: a wider owner has no say.
		e.rules = append(e.rules, Rule{Src: e.key, Target: Target{Verb: Return}, Purpose: PurposeDone})
		out = append(out, e)
	}
	return out
}
