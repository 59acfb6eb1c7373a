package firewall

// natBeforeTunnel lays out case 8b: the flow was NATed before the tunnel came up. The
// nat table is not asked again, and after every hook the source is rewritten to one
// that no policy claims. Only the direction in which that happens is stopped: without
// it, flows that are SNATed into the LAN would be cut. Rewritten into another local
// selector of the same tunnel and remote the flow still matches, so several local
// selectors share a chain that decides.
func (l *layout) natBeforeTunnel(g *GuardFacts) []Rule {
	if g.Local.Bits() == 0 {
		return nil
	}
	if len(g.Locals) == 1 {
		return natBeforeTunnelRules(g)
	}
	snat, dnat := natRules(g)
	for _, r := range []struct {
		rule *Rule
		name string
		ct   func(l int) CtMatch
	}{
		{&snat, stableName(chainRewritten+"S", g.Tunnel, g.Remote.String()), func(i int) CtMatch { return CtMatch{ReplDst: g.Locals[i]} }},
		{&dnat, stableName(chainRewritten+"D", g.Tunnel, g.Remote.String()), func(i int) CtMatch { return CtMatch{OrigDst: g.Locals[i]} }},
	} {
		r.rule.Target, r.rule.Purpose = Target{Verb: Goto, Chain: r.name}, PurposeDispatch
		if l.have[chainKey{Mangle, r.name}] {
			continue
		}
		var rules []Rule
		for i := range g.Locals {
			rules = append(rules, Rule{Ct: r.ct(i), Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: g.Tunnel})
		}
		l.chain(Mangle, r.name, append(rules, Rule{Target: drop(PurposeLeak), Purpose: PurposeLeakGuard, Tunnel: g.Tunnel, Case: Case8b})...)
	}
	return []Rule{snat, dnat}
}

// natBeforeTunnelRules are the rules of case 8b for a guard with one local selector.
func natBeforeTunnelRules(g *GuardFacts) []Rule {
	snat, dnat := natRules(g)
	snat.Ct.ReplDst, snat.Ct.NotReplDst = g.Local, true
	dnat.Ct.OrigDst, dnat.Ct.NotOrigDst = g.Local, true
	for _, r := range []*Rule{&snat, &dnat} {
		r.Target, r.Purpose, r.Case = drop(PurposeLeak), PurposeLeakGuard, Case8b
	}
	return []Rule{snat, dnat}
}

// natRules match a guard's outbound packets whose source NAT rewrites after all hooks:
// of flows with SNAT in their original direction, with DNAT in their reply direction.
func natRules(g *GuardFacts) (snat, dnat Rule) {
	snat, dnat = outboundRule(g), outboundRule(g)
	snat.Ct = CtMatch{State: CtSNAT, Dir: CtOriginal}
	dnat.Ct = CtMatch{State: CtDNAT, Dir: CtReply}
	return snat, dnat
}
