package compile

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
)

// natBeforeTunnel lays out case 8b: the flow was NATed before the tunnel came up. The
// nat table is not asked again, and after every hook the source is rewritten to one
// that no policy claims. Only the direction in which that happens is stopped: without
// it, flows that are SNATed into the LAN would be cut. Rewritten into another local
// selector of the same tunnel and remote the flow still matches, so several local
// selectors share a chain that decides.
func (l *cases) natBeforeTunnel(g *firewall.GuardFacts) []rules.Rule {
	if g.Local.Bits() == 0 {
		return nil
	}
	if len(g.Locals) == 1 {
		return natBeforeTunnelRules(g)
	}
	snat, dnat := natRules(g)
	for _, r := range []struct {
		rule *rules.Rule
		name string
		ct   func(l int) rules.CtMatch
	}{
		{&snat, layout.StableName(layout.ChainRewritten+"S", g.Tunnel, g.Remote.String()), func(i int) rules.CtMatch { return rules.CtMatch{ReplDst: g.Locals[i]} }},
		{&dnat, layout.StableName(layout.ChainRewritten+"D", g.Tunnel, g.Remote.String()), func(i int) rules.CtMatch { return rules.CtMatch{OrigDst: g.Locals[i]} }},
	} {
		r.rule.Target, r.rule.Purpose = rules.Target{Verb: rules.Goto, Chain: r.name}, rules.PurposeDispatch
		if l.Holds(rules.Mangle, r.name) {
			continue
		}
		var list []rules.Rule
		for i := range g.Locals {
			list = append(list, rules.Rule{Ct: r.ct(i), Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone, Tunnel: g.Tunnel})
		}
		l.Chain(rules.Mangle, r.name, append(list, rules.Rule{Target: layout.Drop(rules.PurposeLeak), Purpose: rules.PurposeLeakGuard, Tunnel: g.Tunnel, Case: firewall.Case8b})...)
	}
	return []rules.Rule{snat, dnat}
}

// natBeforeTunnelRules are the rules of case 8b for a guard with one local selector.
func natBeforeTunnelRules(g *firewall.GuardFacts) []rules.Rule {
	snat, dnat := natRules(g)
	snat.Ct.ReplDst, snat.Ct.NotReplDst = g.Local, true
	dnat.Ct.OrigDst, dnat.Ct.NotOrigDst = g.Local, true
	for _, r := range []*rules.Rule{&snat, &dnat} {
		r.Target, r.Purpose, r.Case = layout.Drop(rules.PurposeLeak), rules.PurposeLeakGuard, firewall.Case8b
	}
	return []rules.Rule{snat, dnat}
}

// natRules match a guard's outbound packets in which NAT rewrites the source after all
// hooks. SNAT does so in the original direction of a flow, and DNAT in the reply
// direction.
func natRules(g *firewall.GuardFacts) (snat, dnat rules.Rule) {
	snat, dnat = layout.Outbound(g), layout.Outbound(g)
	snat.Ct = rules.CtMatch{State: rules.CtSNAT, Dir: rules.CtOriginal}
	dnat.Ct = rules.CtMatch{State: rules.CtDNAT, Dir: rules.CtReply}
	return snat, dnat
}
