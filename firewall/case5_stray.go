package firewall

// recheck clears VERIFIED from packets without a security path: a CONNMARK restore of
// another program, which runs after our PREROUTING, would bring it back to the
// cleartext packets of a flow. The guards skip verified packets.
func (l *layout) recheck(input bool) []Rule {
	verified := has(l.Marks.Verified)
	var rules []Rule
	for i := range l.Overlays {
		for _, name := range l.Overlays[i].Devices {
			rules = append(rules, Rule{In: name, Mark: verified, Target: Target{Verb: Return}, Purpose: PurposeDone})
		}
	}
	if l.PacketOffload && !input {
		return append(rules, Rule{Mark: verified, Target: Target{Verb: Return}, Purpose: PurposeDone})
	}
	return append(rules, Rule{
		Mark: verified, Policy: PolicyMatch{Dir: PolicyIn, None: true},
		Target: setMark(0, l.Marks.Verified), Purpose: PurposeStray, Case: Case5,
	})
}
