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
	b.dispatch(Mangle, chainCarried, bySource, b.carrierEntries())
	b.dispatchAnyOrder(Mangle, chainSel, bySource, b.claimEntries())
	b.related()
}

func (b *builder) icmp() xfrm.Proto {
	if b.family == xfrm.IPv6 {
		return xfrm.ICMPv6
	}
	return xfrm.ICMP
}

// knownPieces is in how many chains the rules of known stand.
const knownPieces = 64

// known drops what came out of a tunnel that we know and that none of its rules
// verified. It is reached by such packets only, so it need not be a tree; it is
// cut in pieces so that one tunnel more rewrites only a small chain.
func (b *builder) known() {
	var reqids [knownPieces][]uint32
	for _, t := range b.Set.Tunnels {
		if !b.uncertain[t.Reqid] {
			at := t.Reqid % knownPieces
			reqids[at] = append(reqids[at], t.Reqid)
		}
	}
	var root []Rule
	for i, list := range reqids {
		if len(list) == 0 {
			continue
		}
		slices.Sort(list)
		list = slices.Compact(list)
		name := fmt.Sprintf("%s-%d", chainKnown, i)
		root = append(root, Rule{Target: Target{Verb: Jump, Chain: name}, Purpose: PurposeDispatch})
		b.chain(Mangle, name, b.memo.known(list, func() []Rule {
			rules := make([]Rule, 0, len(list))
			for _, reqid := range list {
				rules = append(rules, Rule{
					Policy: PolicyMatch{Dir: PolicyIn, Reqid: reqid, HasReqid: true},
					Target: drop(PurposeCrossed), Purpose: PurposeDispatch,
				})
			}
			return rules
		})...)
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
	entries := make([]entry, 0, len(b.claims))
	m := b.Config.Marks
	for i := range b.claims {
		c := &b.claims[i]
		if c.policyOnly || c.pair.Family() != b.family {
			continue
		}
		kept := b.keptClaim(i)
		if kept.verify == nil {
			t := &b.Set.Tunnels[c.tunnel]
			base := selectors(c.pair)
			base.Policy, base.Tunnel, base.Target = b.policyIn(*t, b.family), t.ID, b.markVerified()
			tagged := base
			tagged.Mark, tagged.Purpose = has(m.Tag), PurposeVerified
			kept.verify = []Rule{tagged, b.untagged(c.tunnel, base)}
		}
		entries = append(entries, entry{c.pair.Remote, kept.verify})
	}
	return append(entries, b.ipcompEntries()...)
}

// keptClaim returns what was made earlier of a claim.
func (b *builder) keptClaim(i int) *claimRules {
	if b.verified == nil {
		b.verified = make([]*claimRules, len(b.claims))
	}
	if b.verified[i] == nil {
		c := &b.claims[i]
		t := &b.Set.Tunnels[c.tunnel]
		b.verified[i] = b.memo.claim(claimMade{
			pair: c.pair, policy: b.policyIn(*t, b.family), untagged: b.untaggedPurpose(c.tunnel), enforced: b.enforced(c.tunnel), tunnel: t.ID,
		})
	}
	return b.verified[i]
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
	began := make([]entry, 0, len(b.claims))
	replied := make([]entry, 0, len(b.claims))
	owner := make([]ownerEntry, 0, len(b.claims))
	for i := range b.claims {
		c := &b.claims[i]
		if c.pair.Family() != b.family || c.policyOnly {
			continue
		}
		t := &b.Set.Tunnels[c.tunnel]
		remote := c.pair.Remote
		kept := b.keptClaim(i)
		if kept.began == nil {
			policy := b.policyIn(*t, b.family)
			// The flow that the error is about has to be the tunnel's own, whichever
			// end began it: a peer has no say in other peers' flows. Its remote end
			// leads the way, as many tunnels can have the local selector in common.
			about := b.confirmed(c.tunnel, Rule{Dst: c.pair.Local, Policy: policy, Target: b.markVerified(), Purpose: PurposeRelated, Tunnel: t.ID})
			about.Ct = CtMatch{State: CtRelated, OrigSrc: remote}
			kept.began = []Rule{about}
			about.Ct = CtMatch{State: CtRelated, ReplSrc: remote}
			kept.replied = []Rule{about}
			kept.owner = closeOwner(remote, []Rule{
				{Src: remote, Policy: policy, Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: t.ID},
			})
		}
		began = append(began, entry{remote, kept.began})
		replied = append(replied, entry{remote, kept.replied})
		if len(t.SAs) > 0 {
			owner = append(owner, ownerEntry{remote, kept})
		}
	}
	b.chain(Mangle, chainRelated,
		Rule{Target: Target{Verb: Jump, Chain: chainRelatedTo}, Purpose: PurposeDispatch},
		Rule{Target: Target{Verb: Jump, Chain: chainRelatedRe}, Purpose: PurposeDispatch},
		Rule{Mark: has(b.Config.Marks.Verified), Target: Target{Verb: Goto, Chain: chainOwner}, Purpose: PurposeDispatch},
	)
	b.dispatchAnyOrder(Mangle, chainRelatedTo, byOrigSrc|rare, began)
	b.dispatchAnyOrder(Mangle, chainRelatedRe, byReplSrc|rare, replied)
	b.chain(Mangle, chainForeign, Rule{Target: setMark(0, b.Config.Marks.Verified), Purpose: PurposeForeign})
	b.dispatch(Mangle, chainOwner, bySource|rare, closeOwners(owner))
}

// ownerEntry is a live tunnel's claim to a source.
type ownerEntry struct {
	key  netip.Prefix
	kept *claimRules
}

// closeOwners orders the owners' rules, most specific first, and ends each
// prefix with the rule for packets of every other tunnel.
func closeOwners(owners []ownerEntry) []entry {
	slices.SortStableFunc(owners, func(x, y ownerEntry) int {
		return cmp.Or(cmp.Compare(y.key.Bits(), x.key.Bits()), x.key.Addr().Compare(y.key.Addr()))
	})
	out := make([]entry, 0, len(owners))
	for i := 0; i < len(owners); {
		from := i
		for ; i < len(owners) && owners[i].key == owners[from].key; i++ {
		}
		e := entry{key: owners[from].key, rules: owners[from].kept.owner}
		if i > from+1 {
			var rules []Rule
			for _, o := range owners[from:i] {
				if r := o.kept.owner[0]; !slices.Contains(rules, r) {
					rules = append(rules, r)
				}
			}
			e.rules = closeOwner(e.key, rules)
		}
		out = append(out, e)
	}
	return out
}

// closeOwner ends a prefix's rules. The last one leaves the tree: one prefix is
// decided, and a wider owner has no say.
func closeOwner(key netip.Prefix, rules []Rule) []Rule {
	return append(rules, Rule{Src: key, Target: Target{Verb: Goto, Chain: chainForeign}, Purpose: PurposeDispatch})
}
