package accept

import (
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// NAT exempts tunnel traffic from every MASQUERADE and SNAT: a rewritten source no
// longer matches the policy, and the packet would leave in clear.
func NAT(l *layout.Layout) {
	var list, exempt []rules.Rule
	for i := range l.NATKeep {
		k := &l.NATKeep[i]
		if xfrm.FamilyOf(k.Remote.Addr()) == l.Family {
			list = append(list, rules.Rule{
				Src: k.Local, Dst: k.Remote, Policy: layout.PolicyOut(k.Out),
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
	l.Chain(rules.NAT, layout.ChainNAT, append(list, exempt...)...)
	l.Hook(rules.NAT, "POSTROUTING", layout.ChainNAT)
}
