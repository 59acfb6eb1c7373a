package compile

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// carried binds the packets that carry an overlay device's to the one tunnel that
// protects them. No other tunnel verifies them, however wide its selectors, because
// the inner packets are accepted on the device's name alone. Carriers that their
// tunnel does not verify are dropped at once, as crossed.
func (l *cases) carried() {
	var entries []tree.Entry
	for i := range l.Overlays {
		o := &l.Overlays[i]
		if o.VTI || xfrm.FamilyOf(o.Remote) != l.Family {
			continue
		}
		to := layout.Carrier(o)
		if o.Below != nil { // it comes out of a device, and so shows no SA
			to.Target, to.Case = layout.Drop(rules.PurposeCrossed), firewall.Case7
		} else {
			name := layout.StableName(layout.ChainCarrier, o.Devices[0], o.Local.String(), o.Remote.String())
			l.Chain(rules.Mangle, name, carrierRules(o, l.Marks)...)
			to.Target = rules.Target{Verb: rules.Goto, Chain: name}
		}
		entries = append(entries, layout.Entry(prefix.Single(o.Remote), to))
	}
	for _, r := range l.openCarriers() {
		entries = append(entries, layout.Entry(l.Everything(), r))
	}
	l.Tree(tree.Spec{Table: rules.Mangle, Root: layout.ChainCarried, By: tree.BySource}, entries)
}

// openCarriers drop carriers of devices that take any carrier, if they come out of a
// tunnel that is not the device's.
func (l *cases) openCarriers() []rules.Rule {
	var list []rules.Rule
	for _, o := range l.OpenDevices {
		r := rules.Rule{Proto: o.Proto, Target: layout.Drop(rules.PurposeCrossed), Purpose: rules.PurposeDispatch, Case: firewall.Case7}
		if o.Port != 0 {
			r.DPorts = firewall.Port(o.Port)
		}
		switch {
		case !o.Local.IsValid():
			r.DstType = rules.Local
		case xfrm.FamilyOf(o.Local) == l.Family:
			r.Dst = prefix.Single(o.Local)
		default:
			continue
		}
		list = append(list, r)
	}
	return list
}

func carrierRules(o *firewall.Overlay, m firewall.Marks) []rules.Rule {
	rule := rules.Rule{Policy: layout.PolicyIn(o.In), Target: layout.SetMark(m.Verified, m.Verified), Tunnel: o.Tunnel}
	tagged := rule
	tagged.Mark, tagged.Purpose, tagged.Case = layout.Has(m.Tag), rules.PurposeVerified, firewall.Case1
	return []rules.Rule{
		tagged, untagged(rule, o.Untaggable, o.Enforced, m),
		{Mark: layout.Has(m.Verified), Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone, Tunnel: o.Tunnel},
		{Target: layout.Drop(rules.PurposeCrossed), Purpose: rules.PurposeDispatch, Tunnel: o.Tunnel, Case: firewall.Case7},
	}
}

// overlayRules let the packets of tunnel devices keep the evidence of their carrier.
// On a VTI that is TAG, set on the ESP packet, and becomes VERIFIED. A packet with a
// security path did not come out of the device: a VRF above it carries the packets of
// policy tunnels too, and they are judged as such.
func (l *cases) overlayRules() []rules.Rule {
	m := l.Marks
	noPath := rules.PolicyMatch{Dir: rules.PolicyIn, None: true}
	var list []rules.Rule
	if l.strayCarriers() {
		list = append(list, rules.Rule{
			Mark: layout.Has(m.Verified), Policy: noPath, Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainAstray}, Purpose: rules.PurposeDispatch,
		})
	}
	l.outOf()
	for i := range l.Overlays {
		o := &l.Overlays[i]
		for _, name := range o.Devices {
			if o.VTI {
				list = append(list, rules.Rule{
					In: name, Mark: layout.Has(m.Tag), Policy: noPath, Target: l.MarkVerified(), Purpose: rules.PurposeDispatch, Tunnel: o.Tunnel,
				})
			}
			r := rules.Rule{In: name, Mark: layout.Has(m.Verified), Policy: noPath, Tunnel: o.Tunnel}
			if o.Sources == nil {
				r.Target, r.Purpose, r.Case = rules.Target{Verb: rules.Return}, rules.PurposeOverlay, firewall.Case4
				list = append(list, r)
				continue
			}
			if !l.endsOn(i, name) { // the tree asks for all tunnels of the device at once
				continue
			}
			r.Target, r.Purpose = rules.Target{Verb: rules.Jump, Chain: layout.ChainOutOf}, rules.PurposeDispatch
			list = append(list, r)
			r.Target, r.Purpose = rules.Target{Verb: rules.Return}, rules.PurposeDone
			list = append(list, r)
		}
	}
	return list
}

// endsOn reports whether no later overlay has a device.
func (l *cases) endsOn(i int, device string) bool {
	return !slices.ContainsFunc(l.Overlays[i+1:], func(o firewall.Overlay) bool { return slices.Contains(o.Devices, device) })
}

// outOf lays out the sources that packets out of overlay devices may have. It leaves
// VERIFIED on those, and on errors about flows with such an address. All others keep
// no bit: they are in clear for all that follows.
func (l *cases) outOf() {
	m := l.Marks
	var from, began, replied []tree.Entry
	for i := range l.Overlays {
		o := &l.Overlays[i]
		for _, name := range o.Devices {
			for _, p := range l.OfFamily(o.Sources) {
				r := rules.Rule{In: name, Target: l.MarkVerified(), Purpose: rules.PurposeOverlay, Tunnel: o.Tunnel, Case: firewall.Case4}
				source, origin, reply := r, r, r
				source.Src = p
				origin.Ct, reply.Ct = rules.CtMatch{State: rules.CtRelated, OrigSrc: p}, rules.CtMatch{State: rules.CtRelated, ReplSrc: p}
				from, began, replied = append(from, layout.Entry(p, source)), append(began, layout.Entry(p, origin)), append(replied, layout.Entry(p, reply))
			}
		}
	}
	verified := rules.Rule{Mark: layout.Has(m.Verified), Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone}
	lead := func(root string) rules.Rule {
		return rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: root}, Purpose: rules.PurposeDispatch}
	}
	isError := lead(layout.ChainOutOf + "-E")
	isError.Proto, isError.Ct = l.ICMP(), rules.CtMatch{State: rules.CtRelated}
	l.Chain(rules.Mangle, layout.ChainOutOf,
		rules.Rule{Target: layout.SetMark(0, m.Verified), Purpose: rules.PurposeReset}, lead(layout.ChainOutOf+"-S"), verified, isError, verified,
		rules.Rule{Target: layout.SetMark(0, m.Both()), Purpose: rules.PurposeStray, Case: firewall.Case5})
	l.Chain(rules.Mangle, layout.ChainOutOf+"-E", lead(layout.ChainOutOf+"-T"), lead(layout.ChainOutOf+"-R"))
	l.Tree(tree.Spec{Table: rules.Mangle, Root: layout.ChainOutOf + "-S", By: tree.BySource, AnyOrder: true}, from)
	l.Tree(tree.Spec{Table: rules.Mangle, Root: layout.ChainOutOf + "-T", By: tree.ByOriginSource, AnyOrder: true, Rare: true}, began)
	l.Tree(tree.Spec{Table: rules.Mangle, Root: layout.ChainOutOf + "-R", By: tree.ByReplySource, AnyOrder: true, Rare: true}, replied)
}

// strayCarriers drops carriers of an overlay device that came out of another overlay
// device, because the inner packets would be accepted on the device's name alone. It
// reports whether there is a chain for that.
func (l *cases) strayCarriers() bool {
	var list []rules.Rule
	for i := range l.Overlays {
		o := &l.Overlays[i]
		if o.VTI || xfrm.FamilyOf(o.Remote) != l.Family {
			continue
		}
		for _, name := range o.Below {
			r := layout.Carrier(o)
			r.In, r.Target, r.Purpose = name, rules.Target{Verb: rules.Return}, rules.PurposeDone
			list = append(list, r)
		}
		r := layout.Carrier(o)
		r.Target, r.Case = layout.Drop(rules.PurposeCrossed), firewall.Case7
		list = append(list, r)
	}
	list = append(list, l.openCarriers()...)
	if len(list) == 0 {
		return false
	}
	l.Chain(rules.Mangle, layout.ChainAstray, list...)
	return true
}
