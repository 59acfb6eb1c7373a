package compile

import (
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// nat exempts tunnel traffic from every MASQUERADE and SNAT: a rewritten source no
// longer matches the policy, and the packet would leave in clear.
func (l *layout) nat() {
	var list, exempt []rules.Rule
	for i := range l.NATKeep {
		k := &l.NATKeep[i]
		if xfrm.FamilyOf(k.Remote.Addr()) == l.family {
			list = append(list, rules.Rule{
				Src: k.Local, Dst: k.Remote, Policy: policyOut(k.Out),
				Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeNATKeep, Tunnel: k.Tunnel,
			})
		}
	}
	exempt = append(exempt, rules.Rule{Policy: rules.PolicyMatch{Dir: rules.PolicyOut}, Target: rules.Target{Verb: rules.Accept}, Purpose: rules.PurposeNAT})
	for _, d := range l.Devices {
		if d.KeepNAT {
			list = append(list, rules.Rule{Out: d.Name, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeNATKeep, Tunnel: d.Tunnel})
		} else {
			exempt = append(exempt, rules.Rule{Out: d.Name, Target: rules.Target{Verb: rules.Accept}, Purpose: rules.PurposeNAT})
		}
	}
	l.chain(rules.NAT, chainNAT, append(list, exempt...)...)
	l.hook(rules.NAT, "POSTROUTING", chainNAT)
}
