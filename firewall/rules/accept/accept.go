// Package accept lays out the tables filter and nat: the accepts of tunnel traffic and of
// IPsec itself, the restrictions of tunnels, lockdown, and the exemption from NAT. Rulesets
// has the part of it that stands beside the table of the nftables engine.
//
// accept.go has the accepts of cases 1 to 4 and those into tunnels, restrict.go the rules of in,
// out and remote, lockdown.go lockdown, nat.go the exemption. No case is decided here: package
// compile has classified the packets in mangle.
package accept

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// filter lays out the accepts of one family.
type filter struct{ *layout.Layout }

// Before are the rules of cases that stand in the table filter before the accepts: those of
// leaks in FORWARD and OUTPUT, and those of strangers in FORWARD.
type Before struct{ Forwarded, Own, Strangers []rules.Rule }

// Filter lays out the table filter. It decides nothing: mangle has classified.
func Filter(chains *layout.Layout, before Before) {
	l := &filter{chains}
	in, out := l.open(layout.InBy, true), l.open(layout.OutBy, false)
	out = append(out, rules.Rule{Out: "lo", Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt})
	out = append(out, before.Own...)
	fwd := before.Forwarded

	restrictIn, restrictOut := l.restrictions()
	in = append(in, restrictIn...)
	fwd = append(append(fwd, restrictIn...), restrictOut...)
	out = append(out, restrictOut...)
	if !l.MarkOnly {
		accept := l.acceptIn()
		l.acceptByPolicy(func(*firewall.Claim) bool { return true }, rules.Target{Verb: rules.Accept})
		in = append(in, accept...)
		if l.PacketOffload {
			fwd = append(fwd, rules.Rule{Mark: layout.Has(l.Marks.Verified), Target: rules.Target{Verb: rules.Accept}, Purpose: rules.PurposeAcceptIn})
		}
		fwd = append(fwd, accept...)
	}
	fwd = append(fwd, l.intoByPolicy()...)
	fwd = append(fwd, before.Strangers...)
	fwd = append(fwd, l.acceptOut()...)
	out = append(out, l.acceptOut()...)
	if toLockdown := l.lockdown(); toLockdown != nil {
		in, fwd = append(in, toLockdown...), append(fwd, toLockdown...)
	}
	l.chains(in, fwd, out)
}

// open lets IKE, ESP and AH in or out, tunnel up or not: the first road warrior must
// get in. The local port decides, never the peer's.
func (l *filter) open(by func(*rules.Rule, string), inbound bool) []rules.Rule {
	accept := rules.Target{Verb: rules.Accept}
	list := []rules.Rule{
		{Proto: xfrm.ESP, Target: accept, Purpose: rules.PurposeOpen},
		{Proto: xfrm.AH, Target: accept, Purpose: rules.PurposeOpen},
	}
	for _, port := range []uint16{firewall.IKE, firewall.NATT} {
		r := rules.Rule{Proto: xfrm.UDP, Target: accept, Purpose: rules.PurposeOpen}
		if inbound {
			r.DPorts, r.DstType = firewall.Port(port), rules.Local
		} else {
			r.SPorts, r.SrcType = firewall.Port(port), rules.Local
		}
		list = append(list, r)
	}
	for _, at := range l.FamilyEncapPorts() {
		r := rules.Rule{Proto: xfrm.UDP, Target: accept, Purpose: rules.PurposeOpen}
		if inbound {
			r.Dst, r.DPorts = prefix.Single(at.Addr()), firewall.Port(at.Port())
		} else {
			r.Src, r.SPorts = prefix.Single(at.Addr()), firewall.Port(at.Port())
		}
		list = append(list, r)
	}
	var all []rules.Rule
	for _, r := range list {
		all = append(all, l.OnWAN(r, by)...)
	}
	return all
}

// acceptIn lets verified traffic in. It leads other packets out of an SA to the tree that
// judges them again.
func (l *filter) acceptIn() []rules.Rule {
	return append(l.acceptVerified(), l.byPolicy())
}

// byPolicy leads packets out of an SA to the tree of acceptByPolicy.
func (l *filter) byPolicy() rules.Rule {
	return rules.Rule{
		Policy: rules.PolicyMatch{Dir: rules.PolicyIn}, Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainBare}, Purpose: rules.PurposeDispatch,
	}
}

// acceptVerified accepts by the policy match beside the mark, and by the mark alone on
// overlay devices, where the kernel has dropped the policy.
func (l *filter) acceptVerified() []rules.Rule {
	list := []rules.Rule{{
		Mark: layout.Has(l.Marks.Verified), Policy: rules.PolicyMatch{Dir: rules.PolicyIn},
		Target: rules.Target{Verb: rules.Accept}, Purpose: rules.PurposeAcceptIn,
	}}
	for i := range l.Overlays {
		o := &l.Overlays[i]
		for _, name := range o.Devices {
			list = append(list, rules.Rule{
				In: name, Mark: layout.Has(l.Marks.Verified), Target: rules.Target{Verb: rules.Accept}, Purpose: rules.PurposeAcceptIn, Tunnel: o.Tunnel,
			})
		}
	}
	return list
}

// bare reports whether packets of a claim must carry none of our bits.
func bare(c *firewall.Claim) bool { return c.PolicyOnly }

// intoByPolicy lets packets out of tunnels that must carry none of our bits into tunnels,
// where the mark alone tells others: without it they would pass for strangers.
func (l *filter) intoByPolicy() []rules.Rule {
	if !l.MarkOnly || !slices.ContainsFunc(l.FamilyClaims, bare) {
		return nil
	}
	l.acceptByPolicy(bare, rules.Target{Verb: rules.Goto, Chain: layout.ChainInto})
	l.Chain(rules.Filter, layout.ChainInto, l.acceptOut()...)
	return []rules.Rule{l.byPolicy()}
}

// acceptByPolicy lays out the tree that accepts some claims on the policy match alone, or
// does something else to them.
// Their packets must carry none of our bits, or lost them to another program's rule,
// written at any time. The tree is sound because the packets out of a known reqid that
// were no tunnel's own were dropped before filter.
func (l *filter) acceptByPolicy(takes func(*firewall.Claim) bool, to rules.Target) {
	var entries []tree.Entry
	for _, c := range l.FamilyClaims {
		if !takes(c) {
			continue
		}
		r := layout.Selectors(c.Pair)
		r.Policy, r.Target = layout.PolicyIn(c.In), to
		r.Purpose, r.Tunnel = rules.PurposeAcceptIn, c.Tunnel
		entries = append(entries, layout.Entry(c.Pair.Remote, r))
	}
	l.Tree(tree.Spec{Table: rules.Filter, Root: layout.ChainBare, By: tree.BySource, AnyOrder: true}, entries)
}

// acceptOut lets traffic into tunnels: packets that will be encrypted, and those that
// enter a tunnel device, where the first pass shows no policy yet.
func (l *filter) acceptOut() []rules.Rule {
	list := []rules.Rule{{Policy: rules.PolicyMatch{Dir: rules.PolicyOut}, Target: rules.Target{Verb: rules.Accept}, Purpose: rules.PurposeAcceptOut}}
	for _, d := range l.Devices {
		list = append(list, rules.Rule{Out: d.Name, Target: rules.Target{Verb: rules.Accept}, Purpose: rules.PurposeAcceptOut})
	}
	return list
}

// Rulesets lays out the accepts that the nftables engine needs in iptables: about a dozen
// rules a family, none for a single tunnel but for those with packets that must carry no
// bit (case 2). The table of nftables has classified and
// dropped before filter, and an accept of its own would end its own base chain alone. It
// marks with VERIFIED the packets out of a tunnel, and in FORWARD and OUTPUT those that
// may enter one. The policy match beside the mark checks it wherever the kernel still has
// the policy.
func Rulesets(f firewall.Facts) []rules.Ruleset {
	var sets []rules.Ruleset
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		if family == xfrm.IPv6 && f.NoIPv6 {
			continue
		}
		l := &filter{layout.New(&f, family)}
		l.alone()
		sets = append(sets, l.Ruleset())
	}
	return sets
}

// alone lays out the table filter beside the table of nftables.
func (l *filter) alone() {
	in, out := l.open(layout.InBy, true), l.open(layout.OutBy, false)
	out = append(out, rules.Rule{Out: "lo", Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt})
	var fwd []rules.Rule
	verified := rules.Rule{Mark: layout.Has(l.Marks.Verified), Target: rules.Target{Verb: rules.Accept}, Purpose: rules.PurposeAcceptIn}
	if !l.MarkOnly {
		if l.PacketOffload {
			fwd = append(fwd, verified)
		}
		accept := l.acceptVerified()
		if slices.ContainsFunc(l.FamilyClaims, bare) {
			accept = l.acceptIn()
			l.acceptByPolicy(bare, rules.Target{Verb: rules.Accept})
		}
		in, fwd = append(in, accept...), append(fwd, accept...)
	}
	enter := verified
	enter.Policy, enter.Purpose = rules.PolicyMatch{Dir: rules.PolicyOut}, rules.PurposeAcceptOut
	into := []rules.Rule{enter}
	for _, d := range l.Devices {
		device := verified
		device.Out, device.Purpose = d.Name, rules.PurposeAcceptOut
		into = append(into, device)
	}
	fwd = append(fwd, l.intoByPolicy()...)
	fwd, out = append(fwd, into...), append(out, into...)
	l.chains(in, fwd, out)
}

// chains lays out the chains of the three hooks and the jumps to them.
func (l *filter) chains(in, fwd, out []rules.Rule) {
	l.Chain(rules.Filter, layout.ChainIn, in...)
	l.Chain(rules.Filter, layout.ChainFwd, fwd...)
	l.Chain(rules.Filter, layout.ChainOut, out...)
	l.Hook(rules.Filter, "INPUT", layout.ChainIn)
	l.Hook(rules.Filter, "FORWARD", layout.ChainFwd)
	l.Hook(rules.Filter, "OUTPUT", layout.ChainOut)
}
