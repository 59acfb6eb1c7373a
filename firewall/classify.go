package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

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
		tagged := base
		tagged.Mark, tagged.Purpose = has(m.Tag), PurposeVerified
		entries = append(entries, entry{c.pair.Remote, []Rule{tagged, b.untagged(c.tunnel, base)}})
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
	for i, t := range b.Set.Tunnels {
		if !t.Comp || !specified(t.Remote) || !specified(t.Local) || familyOf(t.Remote) != b.family {
			continue
		}
		r := b.confirmed(i, Rule{
			Src: single(t.Remote), Dst: single(t.Local), Proto: b.ipInIP(), Policy: b.policyIn(t, b.family),
			Target: b.markVerified(), Purpose: PurposeIPComp, Tunnel: t.ID,
		})
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
		tagged := rule
		tagged.Mark, tagged.Purpose = has(m.Tag), PurposeVerified
		b.chain(Mangle, name, tagged, b.untagged(o.tunnel, rule),
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
		about := b.confirmed(c.tunnel, Rule{Dst: c.pair.Local, Policy: policy, Target: b.markVerified(), Purpose: PurposeRelated, Tunnel: t.ID})
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
