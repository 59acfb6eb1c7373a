package firewall

import "github.com/xfrmfw/xfrmfw/xfrm"

// lockdown blocks the other packets that come in by the WAN interfaces. Verified
// packets come here only if their verdict is another firewall's.
func (l *layout) lockdown() []Rule {
	if l.Lockdown == nil {
		return nil
	}
	accept := func(r Rule) Rule {
		r.Target, r.Purpose = Target{Verb: Accept}, PurposeService
		return r
	}
	rules := []Rule{
		{Mark: has(l.Marks.Verified), Policy: PolicyMatch{Dir: PolicyIn}, Target: Target{Verb: Return}, Purpose: PurposeDone},
		accept(Rule{Ct: CtMatch{State: CtRelated | CtEstablished}}),
	}
	if l.family == xfrm.IPv6 {
		for _, kind := range []uint8{133, 134, 135, 136} {
			rules = append(rules, accept(Rule{Proto: xfrm.ICMPv6, ICMP: ICMPMatch{Set: true, Type: kind}}))
		}
		rules = append(rules, accept(Rule{Proto: xfrm.UDP, SPorts: Port(547), DPorts: Port(546), DstType: Local}))
	} else {
		rules = append(rules, accept(Rule{Proto: xfrm.UDP, SPorts: Port(67), DPorts: Port(68)}))
	}
	for _, s := range l.Lockdown.Services {
		r := accept(l.service(s))
		r.DstType = Local
		rules = append(rules, r)
	}
	rules = append(rules, l.logged(PurposeLockdown)...)
	l.chain(Filter, chainLockdown, append(rules, Rule{Target: Target{Verb: Drop}, Purpose: PurposeLockdown})...)
	return l.onWAN(Rule{Target: Target{Verb: Goto, Chain: chainLockdown}, Purpose: PurposeDispatch}, inBy)
}
