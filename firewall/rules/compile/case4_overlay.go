package compile

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// carried binds the packets that carry an overlay device's to the one tunnel that
// protects them. No other tunnel verifies them, however wide its selectors, because
// the inner packets are accepted on the device's name alone. Carriers that their
// tunnel does not verify are dropped at once, as crossed.
func (l *layout) carried() {
	var entries []tree.Entry
	for i := range l.Overlays {
		o := &l.Overlays[i]
		if o.VTI || xfrm.FamilyOf(o.Remote) != l.family {
			continue
		}
		to := carrierRule(o)
		if o.Below != nil { // it comes out of a device, and so shows no SA
			to.Target, to.Case = drop(rules.PurposeCrossed), firewall.Case7
		} else {
			name := stableName(chainCarrier, o.Devices[0])
			l.chain(rules.Mangle, name, carrierRules(o, l.Marks)...)
			to.Target = rules.Target{Verb: rules.Goto, Chain: name}
		}
		entries = append(entries, entry(prefix.Single(o.Remote), to))
	}
	l.tree(tree.Spec{Table: rules.Mangle, Root: chainCarried, By: tree.BySource}, entries)
}

func carrierRules(o *firewall.Overlay, m firewall.Marks) []rules.Rule {
	rule := rules.Rule{Policy: policyIn(o.In), Target: setMark(m.Verified, m.Verified), Tunnel: o.Tunnel}
	tagged := rule
	tagged.Mark, tagged.Purpose, tagged.Case = has(m.Tag), rules.PurposeVerified, firewall.Case1
	return []rules.Rule{
		tagged, untagged(rule, o.Untaggable, o.Enforced, m),
		{Mark: has(m.Verified), Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone, Tunnel: o.Tunnel},
		{Target: drop(rules.PurposeCrossed), Purpose: rules.PurposeDispatch, Tunnel: o.Tunnel, Case: firewall.Case7},
	}
}

// overlayRules let the packets of tunnel devices keep the evidence of their carrier.
// On a VTI that is TAG, set on the ESP packet, and becomes VERIFIED. A packet with a
// security path did not come out of the device: a VRF above it carries the packets of
// policy tunnels too, and they are judged as such.
func (l *layout) overlayRules() []rules.Rule {
	m := l.Marks
	noPath := rules.PolicyMatch{Dir: rules.PolicyIn, None: true}
	var list []rules.Rule
	if l.strayCarriers() {
		list = append(list, rules.Rule{
			Mark: has(m.Verified), Policy: noPath, Target: rules.Target{Verb: rules.Jump, Chain: chainAstray}, Purpose: rules.PurposeDispatch,
		})
	}
	for i := range l.Overlays {
		o := &l.Overlays[i]
		for _, name := range o.Devices {
			if o.VTI {
				list = append(list, rules.Rule{
					In: name, Mark: has(m.Tag), Policy: noPath, Target: l.markVerified(), Purpose: rules.PurposeDispatch, Tunnel: o.Tunnel,
				})
			}
			list = append(list, rules.Rule{
				In: name, Mark: has(m.Verified), Policy: noPath, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeOverlay, Tunnel: o.Tunnel, Case: firewall.Case4,
			})
		}
	}
	return list
}

// strayCarriers drops carriers of an overlay device that came out of another overlay
// device, because the inner packets would be accepted on the device's name alone. It
// reports whether there is a chain for that.
func (l *layout) strayCarriers() bool {
	var list []rules.Rule
	for i := range l.Overlays {
		o := &l.Overlays[i]
		if o.VTI || xfrm.FamilyOf(o.Remote) != l.family {
			continue
		}
		for _, name := range o.Below {
			r := carrierRule(o)
			r.In, r.Target, r.Purpose = name, rules.Target{Verb: rules.Return}, rules.PurposeDone
			list = append(list, r)
		}
		r := carrierRule(o)
		r.Target, r.Case = drop(rules.PurposeCrossed), firewall.Case7
		list = append(list, r)
	}
	if len(list) == 0 {
		return false
	}
	l.chain(rules.Mangle, chainAstray, list...)
	return true
}
