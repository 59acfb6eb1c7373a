package firewall

import "github.com/xfrmfw/xfrmfw/xfrm"

// nat exempts tunnel traffic from everybody's MASQUERADE and SNAT: a rewritten
// source no longer matches the policy, and the packet would leave in clear.
func (b *builder) nat() {
	var rules []Rule
	keep := func(tunnel int, r Rule) bool {
		t := &b.Set.Tunnels[tunnel]
		if tc, _ := b.config(t); !tc.KeepNAT {
			return false
		}
		r.Target, r.Purpose, r.Tunnel = Target{Verb: Return}, PurposeNATKeep, t.ID
		rules = append(rules, r)
		return true
	}
	for _, i := range b.notable {
		t := &b.Set.Tunnels[i]
		for _, p := range t.Pairs {
			if p.Has(xfrm.Out) && p.Family() == b.family {
				keep(i, Rule{Src: p.Local, Dst: p.Remote, Policy: PolicyMatch{Dir: PolicyOut, Proto: t.Proto, Reqid: t.Reqid, HasReqid: true}})
			}
		}
	}
	exempt := []Rule{{Policy: PolicyMatch{Dir: PolicyOut}, Target: Target{Verb: Accept}, Purpose: PurposeNAT}}
	for _, name := range b.tunnelDevices() {
		if !keep(b.deviceTunnel(name), Rule{Out: name}) {
			exempt = append(exempt, Rule{Out: name, Target: Target{Verb: Accept}, Purpose: PurposeNAT})
		}
	}
	b.chain(NAT, chainNAT, append(rules, exempt...)...)
	b.hook(NAT, "POSTROUTING", chainNAT)
}
