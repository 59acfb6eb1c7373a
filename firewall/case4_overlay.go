package firewall

// carried binds the packets that carry an overlay device's to the one tunnel that
// protects them. No other tunnel verifies them, however wide its selectors, because
// the inner packets are accepted on the device's name alone. Carriers that their
// tunnel does not verify are dropped at once, as crossed.
func (l *layout) carried() {
	var entries []TreeEntry
	for i := range l.Overlays {
		o := &l.Overlays[i]
		if o.VTI || familyOf(o.Remote) != l.family {
			continue
		}
		to := carrierRule(o)
		if o.Below != nil { // it comes out of a device, and so shows no SA
			to.Target, to.Case = drop(PurposeCrossed), Case7
		} else {
			name := stableName(chainCarrier, o.Devices[0])
			l.chain(Mangle, name, carrierRules(o, l.Marks)...)
			to.Target = Target{Verb: Goto, Chain: name}
		}
		entries = append(entries, entry(single(o.Remote), to))
	}
	l.tree(TreeSpec{Table: Mangle, Root: chainCarried, By: BySource}, entries)
}

func carrierRules(o *Overlay, m Marks) []Rule {
	rule := Rule{Policy: policyIn(o.In), Target: setMark(m.Verified, m.Verified), Tunnel: o.Tunnel}
	tagged := rule
	tagged.Mark, tagged.Purpose, tagged.Case = has(m.Tag), PurposeVerified, Case1
	return []Rule{
		tagged, untagged(rule, o.Untaggable, o.Enforced, m),
		{Mark: has(m.Verified), Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: o.Tunnel},
		{Target: drop(PurposeCrossed), Purpose: PurposeDispatch, Tunnel: o.Tunnel, Case: Case7},
	}
}

// overlayRules let the packets of tunnel devices keep the evidence of their carrier.
// On a VTI that is TAG, set on the ESP packet, and becomes VERIFIED. A packet with a
// security path did not come out of the device: a VRF above it carries the packets of
// policy tunnels too, and they are judged as such.
func (l *layout) overlayRules() []Rule {
	m := l.Marks
	noPath := PolicyMatch{Dir: PolicyIn, None: true}
	var rules []Rule
	if l.strayCarriers() {
		rules = append(rules, Rule{
			Mark: has(m.Verified), Policy: noPath, Target: Target{Verb: Jump, Chain: chainAstray}, Purpose: PurposeDispatch,
		})
	}
	for i := range l.Overlays {
		o := &l.Overlays[i]
		for _, name := range o.Devices {
			if o.VTI {
				rules = append(rules, Rule{
					In: name, Mark: has(m.Tag), Policy: noPath, Target: l.markVerified(), Purpose: PurposeDispatch, Tunnel: o.Tunnel,
				})
			}
			rules = append(rules, Rule{
				In: name, Mark: has(m.Verified), Policy: noPath, Target: Target{Verb: Return}, Purpose: PurposeOverlay, Tunnel: o.Tunnel, Case: Case4,
			})
		}
	}
	return rules
}

// strayCarriers drops carriers of an overlay device that came out of another overlay
// device, because the inner packets would be accepted on the device's name alone. It
// reports whether there is a chain for that.
func (l *layout) strayCarriers() bool {
	var rules []Rule
	for i := range l.Overlays {
		o := &l.Overlays[i]
		if o.VTI || familyOf(o.Remote) != l.family {
			continue
		}
		for _, name := range o.Below {
			r := carrierRule(o)
			r.In, r.Target, r.Purpose = name, Target{Verb: Return}, PurposeDone
			rules = append(rules, r)
		}
		r := carrierRule(o)
		r.Target, r.Case = drop(PurposeCrossed), Case7
		rules = append(rules, r)
	}
	if len(rules) == 0 {
		return false
	}
	l.chain(Mangle, chainAstray, rules...)
	return true
}
