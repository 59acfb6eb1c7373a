package accept

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// lockdown blocks the other packets that come in by the WAN interfaces. Verified
// packets come here only if their verdict is another firewall's; those of case 2 have no
// mark to tell them by.
func (l *filter) lockdown() []rules.Rule {
	if l.Lockdown == nil {
		return nil
	}
	accept := func(r rules.Rule) rules.Rule {
		r.Target, r.Purpose = rules.Target{Verb: rules.Accept}, rules.PurposeService
		return r
	}
	list := []rules.Rule{
		{Mark: layout.Has(l.Marks.Verified), Policy: rules.PolicyMatch{Dir: rules.PolicyIn}, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone},
	}
	for _, c := range l.FamilyClaims {
		if c.PolicyOnly && l.MarkOnly {
			r := layout.Selectors(c.Pair)
			r.Policy, r.Target, r.Purpose, r.Tunnel = layout.PolicyIn(c.In), rules.Target{Verb: rules.Return}, rules.PurposeDone, c.Tunnel
			list = append(list, r)
		}
	}
	list = append(list, accept(rules.Rule{Ct: rules.CtMatch{State: rules.CtRelated | rules.CtEstablished}}))
	if l.Family == xfrm.IPv6 {
		for _, kind := range []uint8{133, 134, 135, 136} {
			list = append(list, accept(rules.Rule{Proto: xfrm.ICMPv6, ICMP: rules.ICMPMatch{Set: true, Type: kind}}))
		}
		list = append(list, accept(rules.Rule{Proto: xfrm.UDP, SPorts: firewall.Port(547), DPorts: firewall.Port(546), DstType: rules.Local}))
	} else {
		dhcp := accept(rules.Rule{Proto: xfrm.UDP, SPorts: firewall.Port(67), DPorts: firewall.Port(68)})
		toHost, toAll := dhcp, dhcp
		toHost.DstType, toAll.Dst = rules.Local, prefix.Single(firewall.LimitedBroadcast())
		list = append(list, toHost, toAll)
	}
	for _, s := range l.Lockdown.Services {
		r := accept(l.service(s))
		r.DstType = rules.Local
		list = append(list, r)
	}
	l.Chain(rules.Filter, layout.ChainLockdown, append(list, l.LockedOut()...)...)
	return l.OnWAN(rules.Rule{Target: rules.Target{Verb: rules.Goto, Chain: layout.ChainLockdown}, Purpose: rules.PurposeDispatch}, layout.InBy)
}
