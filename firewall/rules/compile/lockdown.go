package compile

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// lockdown blocks the other packets that come in by the WAN interfaces. Verified
// packets come here only if their verdict is another firewall's.
func (l *layout) lockdown() []rules.Rule {
	if l.Lockdown == nil {
		return nil
	}
	accept := func(r rules.Rule) rules.Rule {
		r.Target, r.Purpose = rules.Target{Verb: rules.Accept}, rules.PurposeService
		return r
	}
	list := []rules.Rule{
		{Mark: has(l.Marks.Verified), Policy: rules.PolicyMatch{Dir: rules.PolicyIn}, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone},
		accept(rules.Rule{Ct: rules.CtMatch{State: rules.CtRelated | rules.CtEstablished}}),
	}
	if l.family == xfrm.IPv6 {
		for _, kind := range []uint8{133, 134, 135, 136} {
			list = append(list, accept(rules.Rule{Proto: xfrm.ICMPv6, ICMP: rules.ICMPMatch{Set: true, Type: kind}}))
		}
		list = append(list, accept(rules.Rule{Proto: xfrm.UDP, SPorts: firewall.Port(547), DPorts: firewall.Port(546), DstType: rules.Local}))
	} else {
		list = append(list, accept(rules.Rule{Proto: xfrm.UDP, SPorts: firewall.Port(67), DPorts: firewall.Port(68)}))
	}
	for _, s := range l.Lockdown.Services {
		r := accept(l.service(s))
		r.DstType = rules.Local
		list = append(list, r)
	}
	list = append(list, l.logged(rules.PurposeLockdown)...)
	l.chain(rules.Filter, chainLockdown, append(list, rules.Rule{Target: rules.Target{Verb: rules.Drop}, Purpose: rules.PurposeLockdown})...)
	return l.onWAN(rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: chainLockdown}, Purpose: rules.PurposeDispatch}, inBy)
}
