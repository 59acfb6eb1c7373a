package compile

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// classification judges decrypted packets.
func (l *cases) classification() {
	m := l.Marks
	verified := rules.Rule{Mark: layout.Has(m.Verified), Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone}
	pol := []rules.Rule{{Target: layout.SetMark(0, m.Verified), Purpose: rules.PurposeReset}}
	for _, c := range l.FamilyClaims {
		if c.PolicyOnly {
			pol = append(pol, policyOnlyRules(c, m)...)
		}
	}
	pol = append(pol,
		rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainCarried}, Purpose: rules.PurposeDispatch},
		rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainSel}, Purpose: rules.PurposeDispatch},
		rules.Rule{Proto: xfrm.TCP, Mark: layout.Has(m.Verified), Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainMSSIn}, Purpose: rules.PurposeDispatch},
		verified,
		rules.Rule{
			Proto: l.ICMP(), Ct: rules.CtMatch{State: rules.CtRelated},
			Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainRelated}, Purpose: rules.PurposeDispatch,
		},
		verified,
		// A tunnel's own packets that none of its rules took: case 7.
		rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainKnown}, Purpose: rules.PurposeDispatch},
		// Case 7b: VERIFIED stands for "no live tunnel owns the source" meanwhile.
		rules.Rule{Target: l.MarkVerified(), Purpose: rules.PurposeDispatch},
		rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainOwner}, Purpose: rules.PurposeDispatch},
		rules.Rule{Mark: layout.Lacks(m.Verified), Target: layout.Drop(rules.PurposeCrossed), Purpose: rules.PurposeDispatch, Case: firewall.Case7b},
		rules.Rule{Target: layout.SetMark(0, m.Verified), Purpose: rules.PurposeUnknown, Case: firewall.Case7b},
	)
	l.Chain(rules.Mangle, layout.ChainPol, pol...)
	l.known()
	l.carried()
	l.verified()
	l.related()
}

// verified lays out cases 1, 1c, 2 and 3: packets out of a tunnel's SAs, within its
// selectors.
func (l *cases) verified() {
	var entries []tree.Entry
	for _, c := range l.FamilyClaims {
		if !c.PolicyOnly {
			entries = append(entries, layout.Entry(c.Pair.Remote, claimRules(c, l.Marks)...))
		}
	}
	for i := range l.IPComp {
		if c := &l.IPComp[i]; xfrm.FamilyOf(c.Remote) == l.Family {
			entries = append(entries, layout.Entry(prefix.Single(c.Remote), ipcompRule(c, l.Marks, l.IPInIP())))
		}
	}
	l.Tree(tree.Spec{Table: rules.Mangle, Root: layout.ChainSel, By: tree.BySource, AnyOrder: true}, entries)
}

// claimRules verify a claim's packets: with TAG (case 1), and without (cases 2, 3).
func claimRules(c *firewall.Claim, m firewall.Marks) []rules.Rule {
	base := layout.Selectors(c.Pair)
	base.Policy, base.Tunnel, base.Target = layout.PolicyIn(c.In), c.Tunnel, layout.SetMark(m.Verified, m.Verified)
	tagged := base
	tagged.Mark, tagged.Purpose, tagged.Case = layout.Has(m.Tag), rules.PurposeVerified, firewall.Case1
	return []rules.Rule{tagged, untagged(base, c.Untaggable, c.Enforced, m)}
}

// policyOnlyRules leave packets without our bits, because the kernel would no longer
// find their policy. The filter table accepts them on the policy match alone.
func policyOnlyRules(c *firewall.Claim, m firewall.Marks) []rules.Rule {
	r := layout.Selectors(c.Pair)
	r.Policy, r.Purpose, r.Tunnel = layout.PolicyIn(c.In), rules.PurposePolicyOnly, c.Tunnel
	clearing := r
	r.Case = firewall.Case2
	clearing.Purpose, clearing.Target = rules.PurposeReset, layout.SetMark(0, m.Both())
	r.Target = rules.Target{Verb: rules.Return}
	return []rules.Rule{clearing, r}
}

// ipcompRule verifies the carrier of an uncompressed packet (case 1c). It passes the
// hooks as IP in IP between the gateways before its payload appears.
func ipcompRule(c *firewall.IPCompCarrier, m firewall.Marks, proto xfrm.Proto) rules.Rule {
	return confirmed(rules.Rule{
		Src: prefix.Single(c.Remote), Dst: prefix.Single(c.Local), Proto: proto, Policy: layout.PolicyIn(c.In),
		Target: layout.SetMark(m.Verified, m.Verified), Purpose: rules.PurposeIPComp, Tunnel: c.Tunnel, Case: firewall.Case1c,
	}, c.Enforced, m)
}
