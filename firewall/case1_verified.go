package firewall

import "github.com/xfrmfw/xfrmfw/xfrm"

// classification judges decrypted packets.
func (l *layout) classification() {
	m := l.Marks
	verified := Rule{Mark: has(m.Verified), Target: Target{Verb: Return}, Purpose: PurposeDone}
	pol := []Rule{{Target: setMark(0, m.Verified), Purpose: PurposeReset}}
	for _, c := range l.claims {
		if c.PolicyOnly {
			pol = append(pol, policyOnlyRules(c, m)...)
		}
	}
	pol = append(pol,
		Rule{Target: Target{Verb: Jump, Chain: chainCarried}, Purpose: PurposeDispatch},
		Rule{Target: Target{Verb: Jump, Chain: chainSel}, Purpose: PurposeDispatch},
		Rule{Proto: xfrm.TCP, Mark: has(m.Verified), Target: Target{Verb: Jump, Chain: chainMSSIn}, Purpose: PurposeDispatch},
		verified,
		Rule{
			Proto: l.icmp(), Ct: CtMatch{State: CtRelated},
			Target: Target{Verb: Jump, Chain: chainRelated}, Purpose: PurposeDispatch,
		},
		verified,
		// A tunnel's own packets that none of its rules took: case 7.
		Rule{Target: Target{Verb: Jump, Chain: chainKnown}, Purpose: PurposeDispatch},
		// Case 7b: VERIFIED stands for "no live tunnel owns the source" meanwhile.
		Rule{Target: l.markVerified(), Purpose: PurposeDispatch},
		Rule{Target: Target{Verb: Jump, Chain: chainOwner}, Purpose: PurposeDispatch},
		Rule{Mark: lacks(m.Verified), Target: drop(PurposeCrossed), Purpose: PurposeDispatch, Case: Case7b},
		Rule{Target: setMark(0, m.Verified), Purpose: PurposeUnknown, Case: Case7b},
	)
	l.chain(Mangle, chainPol, pol...)
	l.known()
	l.carried()
	l.verified()
	l.related()
}

// verified lays out cases 1, 1c, 2 and 3: packets out of a tunnel's SAs, within its
// selectors.
func (l *layout) verified() {
	var entries []TreeEntry
	for _, c := range l.claims {
		if !c.PolicyOnly {
			entries = append(entries, entry(c.Pair.Remote, claimRules(c, l.Marks)...))
		}
	}
	for i := range l.IPComp {
		if c := &l.IPComp[i]; familyOf(c.Remote) == l.family {
			entries = append(entries, entry(single(c.Remote), ipcompRule(c, l.Marks, l.ipInIP())))
		}
	}
	l.tree(TreeSpec{Table: Mangle, Root: chainSel, By: BySource, AnyOrder: true}, entries)
}

// claimRules verify a claim's packets: with TAG (case 1), and without (cases 2, 3).
func claimRules(c *Claim, m Marks) []Rule {
	base := selectors(c.Pair)
	base.Policy, base.Tunnel, base.Target = policyIn(c.In), c.Tunnel, setMark(m.Verified, m.Verified)
	tagged := base
	tagged.Mark, tagged.Purpose, tagged.Case = has(m.Tag), PurposeVerified, Case1
	return []Rule{tagged, untagged(base, c.Untaggable, c.Enforced, m)}
}

// policyOnlyRules leave packets without our bits, because the kernel would no longer
// find their policy. The filter table accepts them on the policy match alone.
func policyOnlyRules(c *Claim, m Marks) []Rule {
	r := selectors(c.Pair)
	r.Policy, r.Purpose, r.Tunnel = policyIn(c.In), PurposePolicyOnly, c.Tunnel
	clearing := r
	r.Case = Case2
	clearing.Purpose, clearing.Target = PurposeReset, setMark(0, m.Both())
	r.Target = Target{Verb: Return}
	return []Rule{clearing, r}
}

// ipcompRule verifies the carrier of an uncompressed packet (case 1c). It passes the
// hooks as IP in IP between the gateways before its payload appears.
func ipcompRule(c *IPCompCarrier, m Marks, proto xfrm.Proto) Rule {
	return confirmed(Rule{
		Src: single(c.Remote), Dst: single(c.Local), Proto: proto, Policy: policyIn(c.In),
		Target: setMark(m.Verified, m.Verified), Purpose: PurposeIPComp, Tunnel: c.Tunnel, Case: Case1c,
	}, c.Enforced, m)
}
