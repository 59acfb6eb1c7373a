package firewall

import (
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// injectAfterDNAT leads to the part of case 6b that shows only after DNAT: a stranger
// with an address of the LAN sends to a port-forward that leads to the other end of a
// tunnel. In PREROUTING the packet was for this host; now it is about to be encrypted.
func injectAfterDNAT() rules.Rule {
	return rules.Rule{
		Policy: rules.PolicyMatch{Dir: rules.PolicyOut}, Ct: rules.CtMatch{State: rules.CtDNAT, Dir: rules.CtOriginal},
		Target: rules.Target{Verb: rules.Jump, Chain: chainMapped}, Purpose: rules.PurposeDispatch,
	}
}

// mapped drops such packets if their source lives behind another interface than the
// one they came in by. rpfilter works in PREROUTING only, so the routes to the local
// selectors stand here as rules, the most specific first.
func (l *layout) mapped() {
	// Decrypted packets and those out of tunnel devices are no stranger's.
	list := []rules.Rule{{Policy: rules.PolicyMatch{Dir: rules.PolicyIn}, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone}}
	list = append(list, l.fromDevices()...)
	list = append(list, l.asymmetric()...)
	for i, h := range l.Homes {
		if xfrm.FamilyOf(h.Prefix.Addr()) != l.family {
			continue
		}
		list = append(list, rules.Rule{Src: h.Prefix, In: h.Device, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeLAN})
		if i+1 == len(l.Homes) || l.Homes[i+1].Prefix != h.Prefix {
			list = append(list, rules.Rule{Src: h.Prefix, Target: drop(rules.PurposeInject), Purpose: rules.PurposeInjectGuard, Case: rules.Case6b})
		}
	}
	l.chain(rules.Mangle, chainMapped, append(list, l.fromUplinks()...)...)
}

// asymmetric spares interfaces on which packets of the LAN may arrive although the
// way back leads elsewhere.
func (l *layout) asymmetric() []rules.Rule {
	var list []rules.Rule
	for _, name := range l.Asymmetric {
		list = append(list, rules.Rule{In: name, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeExempt})
	}
	return list
}
