package firewall

// injectAfterDNAT leads to the part of case 6b that shows only after DNAT: a stranger
// with an address of the LAN sends to a port-forward that leads to the other end of a
// tunnel. In PREROUTING the packet was for this host; now it is about to be encrypted.
func injectAfterDNAT() Rule {
	return Rule{
		Policy: PolicyMatch{Dir: PolicyOut}, Ct: CtMatch{State: CtDNAT, Dir: CtOriginal},
		Target: Target{Verb: Jump, Chain: chainMapped}, Purpose: PurposeDispatch,
	}
}

// mapped drops such packets if their source lives behind another interface than the
// one they came in by. rpfilter works in PREROUTING only, so the routes to the local
// selectors stand here as rules, the most specific first.
func (l *layout) mapped() {
	// Decrypted packets and those out of tunnel devices are no stranger's.
	rules := []Rule{{Policy: PolicyMatch{Dir: PolicyIn}, Target: Target{Verb: Return}, Purpose: PurposeDone}}
	rules = append(rules, l.fromDevices()...)
	rules = append(rules, l.asymmetric()...)
	for i, h := range l.Homes {
		if familyOf(h.Prefix.Addr()) != l.family {
			continue
		}
		rules = append(rules, Rule{Src: h.Prefix, In: h.Device, Target: Target{Verb: Return}, Purpose: PurposeLAN})
		if i+1 == len(l.Homes) || l.Homes[i+1].Prefix != h.Prefix {
			rules = append(rules, Rule{Src: h.Prefix, Target: drop(PurposeInject), Purpose: PurposeInjectGuard, Case: Case6b})
		}
	}
	l.chain(Mangle, chainMapped, rules...)
}

// asymmetric spares interfaces on which packets of the LAN may arrive although the
// way back leads elsewhere.
func (l *layout) asymmetric() []Rule {
	var rules []Rule
	for _, name := range l.Asymmetric {
		rules = append(rules, Rule{In: name, Target: Target{Verb: Return}, Purpose: PurposeExempt})
	}
	return rules
}
