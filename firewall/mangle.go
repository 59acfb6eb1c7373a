package firewall

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
		Rule{
			Proto: b.icmp(), Ct: CtMatch{State: CtRelated},
			Target: Target{Verb: Jump, Chain: chainQuoted}, Purpose: PurposeDispatch,
		},
	)
	within := b.guarding()
	pre = append(pre, b.gates(within, byDestination, Rule{Target: Target{Verb: Goto, Chain: chainInject}})...)
	b.chain(Mangle, chainPre, pre...)
	b.chain(Mangle, chainStray, Rule{Target: setMark(0, m.Both()), Purpose: PurposeStray})
	b.hook(Mangle, "PREROUTING", chainPre)

	in := []Rule{{In: "lo", Target: Target{Verb: Return}, Purpose: PurposeExempt}}
	in = append(in, b.tagDispatch()...)
	in = append(in, b.recheck(true)...)
	// What came out of a state is not judged in clear.
	inClear := PolicyMatch{Dir: PolicyIn, None: true}
	in = append(in, b.gates(within, bySource, Rule{Policy: inClear, Target: Target{Verb: Goto, Chain: chainArriving}})...)
	b.chain(Mangle, chainIn, in...)
	b.hook(Mangle, "INPUT", chainIn)
	fwd := append(b.recheck(false), b.toMapped())
	fwd = append(fwd, b.gates(within, bySource, Rule{Policy: inClear, Target: Target{Verb: Goto, Chain: chainSpoof}})...)
	b.chain(Mangle, chainFwd, fwd...)
	b.hook(Mangle, "FORWARD", chainFwd)

	b.tagging()
	b.classification()
	b.unconfirmed()
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
	if b.astray() {
		rules = append(rules, Rule{
			Mark: has(m.Verified), Policy: noPath, Target: Target{Verb: Jump, Chain: chainAstray}, Purpose: PurposeDispatch,
		})
	}
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

// astray drops what carries an overlay device's packets and came out of another
// overlay device: what it carries would be accepted as this one's, on the
// device's name alone. It reports whether there is a chain for that.
func (b *builder) astray() bool {
	var rules []Rule
	for _, o := range b.overlays {
		if o.vti || familyOf(o.remote) != b.family {
			continue
		}
		id := b.Set.Tunnels[o.tunnel].ID
		for _, name := range o.below {
			r := carrierRule(o, id)
			r.In, r.Target, r.Purpose = name, Target{Verb: Return}, PurposeDone
			rules = append(rules, r)
		}
		r := carrierRule(o, id)
		r.Target = drop(PurposeCrossed)
		rules = append(rules, r)
	}
	if len(rules) == 0 {
		return false
	}
	b.chain(Mangle, chainAstray, rules...)
	return true
}

// recheck clears VERIFIED where the kernel knows of no state: another program's
// CONNMARK restore, which runs after our PREROUTING, would bring it back to the
// flow's cleartext packets. What is verified is left alone by the guards.
func (b *builder) recheck(input bool) []Rule {
	verified := has(b.Config.Marks.Verified)
	var rules []Rule
	for _, o := range b.overlays {
		for _, name := range o.devices {
			rules = append(rules, Rule{In: name, Mark: verified, Target: Target{Verb: Return}, Purpose: PurposeDone})
		}
	}
	if b.offload && !input {
		// Such states' packets lose the security path before FORWARD.
		rules = append(rules, Rule{Mark: verified, Target: Target{Verb: Return}, Purpose: PurposeDone})
	} else {
		rules = append(rules, Rule{
			Mark: verified, Policy: PolicyMatch{Dir: PolicyIn, None: true},
			Target: setMark(0, b.Config.Marks.Verified), Purpose: PurposeStray,
		})
	}
	return rules
}
