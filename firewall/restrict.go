package firewall

import (
	"strings"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// restrictions returns the rules that lead to the chains of restricted tunnels, for
// traffic out of tunnels and into them. They stand in filter, after DNAT, and only
// ever take away: packets that they let through are accepted further on, so that a
// packet from one restricted tunnel into another obeys both. A tunnel needs two
// chains, because the in and out policy matches share only FORWARD.
func (l *layout) restrictions() (in, out []Rule) {
	var inTree, outTree []TreeEntry
	for i := range l.Restrictions {
		r := &l.Restrictions[i]
		if r.In != nil {
			name := serviceChain("I", r.Tunnel)
			inTree = append(inTree, l.restrictedEntries(r.Sources, BySource, name, r.Tunnel)...)
			in = append(in, fromOverlays(r, name, l.Marks)...)
			end := append(logRules(l.Log, "in", r.Name, r.Tunnel), Rule{Target: Target{Verb: Drop}})
			l.chain(Filter, name, l.serviceRules(r, true, r.In, end)...)
		}
		if r.Remote != nil {
			// Prefixes beyond the cap would draw traffic to the peer.
			name := serviceChain("C", r.Tunnel)
			outTree = append(outTree, l.restrictedEntries(r.Destinations, ByDestination, name, r.Tunnel)...)
			out = append(out, intoDevices(r, name)...)
			l.chain(Filter, name, l.capRules(r)...)
		}
		if r.Out != nil {
			name := serviceChain("O", r.Tunnel)
			outTree = append(outTree, l.restrictedEntries(r.Destinations, ByDestination, name, r.Tunnel)...)
			out = append(out, intoDevices(r, name)...)
			end := append(logRules(l.Log, "out", r.Name, r.Tunnel), Rule{Target: Target{Verb: Reject}})
			l.chain(Filter, name, l.serviceRules(r, false, r.Out, end)...)
		}
	}
	l.tree(TreeSpec{Table: Filter, Root: chainRestrictIn, By: BySource}, inTree)
	l.tree(TreeSpec{Table: Filter, Root: chainRestrictOut, By: ByDestination}, outTree)
	in = append(in, Rule{
		Policy: PolicyMatch{Dir: PolicyIn}, Target: Target{Verb: Jump, Chain: chainRestrictIn}, Purpose: PurposeDispatch,
	})
	out = append(out, Rule{
		Policy: PolicyMatch{Dir: PolicyOut}, Target: Target{Verb: Jump, Chain: chainRestrictOut}, Purpose: PurposeDispatch,
	})
	return in, out
}

// serviceChain names a chain of a tunnel, so that no other tunnel's coming or going
// renames it. The ID loses its first letter, which would be one too many for a name.
func serviceChain(letter, tunnel string) string {
	return chainService + letter + "-" + strings.TrimPrefix(tunnel, "t")
}

// restrictedEntries lead a tunnel's packets to its chain. Packets that are let in are
// verified, so their source is in the tree; errors from routers inside the tunnel are
// not, and belong to flows that were allowed.
func (l *layout) restrictedEntries(prefixes []RestrictedPrefix, by Direction, chain, tunnel string) []TreeEntry {
	var entries []TreeEntry
	for _, p := range prefixes {
		if familyOf(p.Prefix.Addr()) != l.family {
			continue
		}
		r := Rule{Policy: policyIn(p.SA), Target: Target{Verb: Jump, Chain: chain}, Purpose: PurposeDispatch, Tunnel: tunnel}
		if by == ByDestination {
			r.Policy = policyOut(p.SA)
		}
		*by.field(&r) = p.Prefix
		entries = append(entries, entry(p.Prefix, r))
	}
	return entries
}

// serviceRules are a tunnel's chain: carriers, replies, the services, and the end.
func (l *layout) serviceRules(r *Restriction, inbound bool, services []Service, end []Rule) []Rule {
	rules := append(l.carriers(r, inbound), Rule{
		Ct: CtMatch{State: CtRelated | CtEstablished}, Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: r.Tunnel,
	})
	for _, s := range services {
		rule := l.service(s)
		rule.Target, rule.Purpose, rule.Tunnel = Target{Verb: Return}, PurposeService, r.Tunnel
		rules = append(rules, rule)
	}
	last := &end[len(end)-1]
	last.Purpose, last.Tunnel = PurposeRestricted, r.Tunnel
	return append(rules, end...)
}

// capRules keep packets into a tunnel within its cap.
func (l *layout) capRules(r *Restriction) []Rule {
	var rules []Rule
	for _, p := range r.Remote {
		if familyOf(p.Addr()) == l.family {
			rules = append(rules, Rule{Dst: p, Target: Target{Verb: Return}, Purpose: PurposeDone, Tunnel: r.Tunnel})
		}
	}
	rules = append(rules, logRules(l.Log, "remote", r.Name, r.Tunnel)...)
	return append(rules, Rule{Target: Target{Verb: Reject}, Purpose: PurposeRestricted, Tunnel: r.Tunnel})
}

// carriers pass the packets that carry an overlay device's: the inner packets are
// restricted.
func (l *layout) carriers(r *Restriction, inbound bool) []Rule {
	var rules []Rule
	for i := range r.Overlays {
		o := &r.Overlays[i]
		if o.VTI || familyOf(o.Remote) != l.family {
			continue
		}
		rule := carrierRule(o)
		rule.Target, rule.Purpose = Target{Verb: Return}, PurposeDone
		if !inbound {
			rule.Src, rule.Dst = rule.Dst, rule.Src
		}
		rules = append(rules, rule)
	}
	return rules
}

// service matches a service in the layout's family.
func (l *layout) service(s Service) Rule {
	if s.Proto == xfrm.ICMP {
		s.Proto = l.icmp()
	}
	return Rule{Proto: s.Proto, DPorts: s.Ports}
}

// fromOverlays lead the inner packets of a tunnel's overlay devices to its chain.
func fromOverlays(r *Restriction, chain string, m Marks) []Rule {
	var rules []Rule
	for i := range r.Overlays {
		for _, name := range r.Overlays[i].Devices {
			rules = append(rules, Rule{
				In: name, Mark: has(m.Verified), Target: Target{Verb: Jump, Chain: chain}, Purpose: PurposeDispatch, Tunnel: r.Tunnel,
			})
		}
	}
	return rules
}

// intoDevices lead packets into a tunnel's own devices to its chain.
func intoDevices(r *Restriction, chain string) []Rule {
	var rules []Rule
	for _, name := range r.Into {
		rules = append(rules, Rule{Out: name, Target: Target{Verb: Jump, Chain: chain}, Purpose: PurposeDispatch, Tunnel: r.Tunnel})
	}
	return rules
}
