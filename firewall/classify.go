package firewall

import (
	"cmp"
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
	b.dispatch(Mangle, chainCarried, bySource, b.carrierEntries())
	b.grow(Mangle, chainSel, bySource, false, b.claimEntries())
	b.related()
}

func (b *builder) icmp() xfrm.Proto {
	if b.family == xfrm.IPv6 {
		return xfrm.ICMPv6
	}
	return xfrm.ICMP
}

// policyOnlyRules leave alone what may carry none of our bits, since the kernel
// would no longer find its policy. The filter table accepts it on policy alone.
func (b *builder) policyOnlyRules() []Rule {
	var rules []Rule
	for _, i := range b.notable {
		for _, c := range b.claimsOf(i) {
			if !c.policyOnly || c.pair.Family() != b.family {
				continue
			}
			t := b.Set.Tunnels[i]
			r := selectors(c.pair)
			r.Policy, r.Purpose, r.Tunnel = b.policyIn(t, b.family), PurposePolicyOnly, t.ID
			clearing := r
			clearing.Purpose, clearing.Target = PurposeReset, setMark(0, b.Config.Marks.Both())
			r.Target = Target{Verb: Return}
			rules = append(rules, clearing, r)
		}
	}
	return rules
}

// claimEntries are the rules of cases 1, 1c, 2 and 3, by the source they are for.
func (b *builder) claimEntries() stand {
	remake := func(i int) []Rule {
		c := &b.claims[i]
		t := &b.Set.Tunnels[c.tunnel]
		base := selectors(c.pair)
		base.Policy, base.Tunnel, base.Target = b.policyIn(*t, b.family), t.ID, b.markVerified()
		tagged := base
		tagged.Mark, tagged.Purpose = has(b.Config.Marks.Tag), PurposeVerified
		return []Rule{tagged, b.untagged(c.tunnel, base)}
	}
	ipcomp := b.ipcompEntries()
	return stand{touched: b.touchedClaims, loose: keysOf(ipcomp), in: func(list []entry, p netip.Prefix) []entry {
		for _, i := range b.claimsIn(p) {
			list = append(list, keptEntry(b.claims[i].pair.Remote, &b.verified[i].verify, i, remake))
		}
		for _, e := range ipcomp {
			if e.key.Overlaps(p) {
				list = append(list, e)
			}
		}
		return list
	}}
}

func keysOf(entries []entry) []netip.Prefix {
	var keys []netip.Prefix
	for i := range entries {
		keys = append(keys, entries[i].key)
	}
	return keys
}

// untaggedPurpose names the rule for packets without TAG: whether that is to be
// expected, or worth a second look. A tunnel that is down is judged by what its
// states will meet, so that its rules need no change when it comes up.
func (b *builder) untaggedPurpose(tunnel int) Purpose {
	r, t := &b.result.Tunnels[tunnel], &b.Set.Tunnels[tunnel]
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
	for _, i := range b.notable {
		t := b.Set.Tunnels[i]
		if !t.Comp || !specified(t.Remote) || !specified(t.Local) || familyOf(t.Remote) != b.family {
			continue
		}
		r := b.confirmed(i, Rule{
			Src: single(t.Remote), Dst: single(t.Local), Proto: b.ipInIP(), Policy: b.policyIn(t, b.family),
			Target: b.markVerified(), Purpose: PurposeIPComp, Tunnel: t.ID,
		})
		entries = append(entries, entry{key: single(t.Remote), rules: []Rule{r}})
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
		if o.below != nil { // it comes out of a device, and so shows no state
			to := carrierRule(o, t.ID)
			to.Target = drop(PurposeCrossed)
			entries = append(entries, entry{key: single(o.remote), rules: []Rule{to}})
			continue
		}
		name := stableName(chainCarrier, o.devices[0])
		rule := Rule{Policy: b.policyIn(t, b.family), Target: b.markVerified(), Tunnel: t.ID}
		tagged := rule
		tagged.Mark, tagged.Purpose = has(m.Tag), PurposeVerified
		b.chain(Mangle, name, tagged, b.untagged(o.tunnel, rule),
			Rule{Mark: has(m.Verified), Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: t.ID},
			Rule{Target: drop(PurposeCrossed), Purpose: PurposeDispatch, Tunnel: t.ID},
		)
		to := carrierRule(o, t.ID)
		to.Target = Target{Verb: Goto, Chain: name}
		entries = append(entries, entry{key: single(o.remote), rules: []Rule{to}})
	}
	return entries
}

// carrierRule matches the packets that carry an overlay device's.
func carrierRule(o overlay, tunnel string) Rule {
	r := Rule{Src: single(o.remote), Dst: single(o.local), Proto: o.proto, Purpose: PurposeDispatch, Tunnel: tunnel}
	if o.port != 0 {
		r.DPorts = Port(o.port)
	}
	return r
}

// related builds case 1b. Errors come from any router inside the tunnel, so the
// source says nothing by itself; but if it lies in the selectors of another
// live tunnel, its errors have to come out of that one.
func (b *builder) related() {
	// The flow that the error is about has to be the tunnel's own, whichever end
	// began it: a peer has no say in other peers' flows. Its remote end leads the
	// way, as many tunnels can have the local selector in common.
	about := func(i int, ct CtMatch) []Rule {
		c := &b.claims[i]
		t := &b.Set.Tunnels[c.tunnel]
		return []Rule{b.confirmed(c.tunnel, Rule{
			Dst: c.pair.Local, Policy: b.policyIn(*t, b.family), Ct: ct, Target: b.markVerified(), Purpose: PurposeRelated, Tunnel: t.ID,
		})}
	}
	byOriginal := func(i int) []Rule { return about(i, CtMatch{State: CtRelated, OrigSrc: b.claims[i].pair.Remote}) }
	byReply := func(i int) []Rule { return about(i, CtMatch{State: CtRelated, ReplSrc: b.claims[i].pair.Remote}) }
	stands := func(kept func(*claimRules) *uint8, remake func(i int) []Rule) stand {
		return stand{touched: b.touchedClaims, in: func(list []entry, p netip.Prefix) []entry {
			for _, i := range b.claimsIn(p) {
				list = append(list, keptEntry(b.claims[i].pair.Remote, kept(b.verified[i]), i, remake))
			}
			return list
		}}
	}
	b.chain(Mangle, chainRelated,
		Rule{Target: Target{Verb: Jump, Chain: chainRelatedTo}, Purpose: PurposeDispatch},
		Rule{Target: Target{Verb: Jump, Chain: chainRelatedRe}, Purpose: PurposeDispatch},
		Rule{Mark: has(b.Config.Marks.Verified), Target: Target{Verb: Goto, Chain: chainOwner}, Purpose: PurposeDispatch},
	)
	b.grow(Mangle, chainRelatedTo, byOrigSrc|rare, false, stands(func(r *claimRules) *uint8 { return &r.began }, byOriginal))
	b.grow(Mangle, chainRelatedRe, byReplSrc|rare, false, stands(func(r *claimRules) *uint8 { return &r.replied }, byReply))
	b.chain(Mangle, chainForeign, Rule{Target: setMark(0, b.Config.Marks.Verified), Purpose: PurposeForeign})
	b.grow(Mangle, chainOwner, bySource|rare, true, stand{touched: b.touchedClaims, in: b.ownerEntries})
}

// ownerRule is for what came out of a claim's own tunnel.
func (b *builder) ownerRule(claim int) Rule {
	c := &b.claims[claim]
	t := &b.Set.Tunnels[c.tunnel]
	return Rule{Src: c.pair.Remote, Policy: b.policyIn(*t, b.family), Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: t.ID}
}

// ownerEntries are the rules for live tunnels' sources, most specific first. Each
// prefix ends with the rule for packets of every other tunnel.
func (b *builder) ownerEntries(list []entry, p netip.Prefix) []entry {
	owners := b.claimsIn(p)
	owners = slices.DeleteFunc(owners, func(i int) bool { return !b.verified[i].made.live })
	remote := func(i int) netip.Prefix { return b.claims[i].pair.Remote }
	slices.SortStableFunc(owners, func(x, y int) int {
		return cmp.Or(cmp.Compare(remote(y).Bits(), remote(x).Bits()), remote(x).Addr().Compare(remote(y).Addr()))
	})
	only := func(i int) []Rule { return closeOwner(remote(i), []Rule{b.ownerRule(i)}) }
	for i := 0; i < len(owners); {
		from, key := i, remote(owners[i])
		for ; i < len(owners) && remote(owners[i]) == key; i++ {
		}
		if first := owners[from]; i == from+1 {
			list = append(list, keptEntry(key, &b.verified[first].owner, first, only))
			continue
		}
		var rules []Rule
		for _, at := range owners[from:i] {
			if r := b.ownerRule(at); !slices.Contains(rules, r) {
				rules = append(rules, r)
			}
		}
		list = append(list, entry{key: key, rules: closeOwner(key, rules)})
	}
	return list
}

// closeOwner ends a prefix's rules. The last one leaves the tree: one prefix is
// decided, and a wider owner has no say.
func closeOwner(key netip.Prefix, rules []Rule) []Rule {
	return append(rules, Rule{Src: key, Target: Target{Verb: Goto, Chain: chainForeign}, Purpose: PurposeDispatch})
}
