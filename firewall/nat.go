package firewall

// nat exempts tunnel traffic from every MASQUERADE and SNAT: a rewritten source no
// longer matches the policy, and the packet would leave in clear.
func (l *layout) nat() {
	var rules, exempt []Rule
	for i := range l.NATKeep {
		k := &l.NATKeep[i]
		if familyOf(k.Remote.Addr()) == l.family {
			rules = append(rules, Rule{
				Src: k.Local, Dst: k.Remote, Policy: policyOut(k.Out),
				Target: Target{Verb: Return}, Purpose: PurposeNATKeep, Tunnel: k.Tunnel,
			})
		}
	}
	exempt = append(exempt, Rule{Policy: PolicyMatch{Dir: PolicyOut}, Target: Target{Verb: Accept}, Purpose: PurposeNAT})
	for _, d := range l.Devices {
		if d.KeepNAT {
			rules = append(rules, Rule{Out: d.Name, Target: Target{Verb: Return}, Purpose: PurposeNATKeep, Tunnel: d.Tunnel})
		} else {
			exempt = append(exempt, Rule{Out: d.Name, Target: Target{Verb: Accept}, Purpose: PurposeNAT})
		}
	}
	l.chain(NAT, chainNAT, append(rules, exempt...)...)
	l.hook(NAT, "POSTROUTING", chainNAT)
}
