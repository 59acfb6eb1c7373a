package accept

import (
	"net/netip"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// restrictions returns the rules that lead to the chains of restricted tunnels, for
// traffic out of tunnels and into them. They stand in filter, after DNAT, and only
// ever take away: packets that they let through are accepted further on, so that a
// packet from one restricted tunnel into another obeys both. A tunnel needs two
// chains, because the in and out policy matches share only FORWARD.
func (l *filter) restrictions() (in, out []rules.Rule) {
	var inTree, outTree []tree.Entry
	for i := range l.Restrictions {
		r := &l.Restrictions[i]
		if r.In != nil {
			name := serviceChain("I", r.Tunnel)
			inTree = append(inTree, l.restrictedEntries(r.Sources, tree.BySource, name, r.Tunnel)...)
			in = append(in, l.fromOverlays(r, name)...)
			end := append(layout.LogRules(l.Log, "in", r.Name, r.Tunnel), rules.Rule{Target: rules.Target{Verb: rules.Drop}})
			l.Chain(rules.Filter, name, l.serviceRules(r, true, r.In, end)...)
		}
		if r.Remote != nil {
			// Prefixes beyond the cap would draw traffic to the peer.
			name := serviceChain("C", r.Tunnel)
			outTree = append(outTree, l.restrictedEntries(r.Destinations, tree.ByDestination, name, r.Tunnel)...)
			out = append(out, l.intoDevices(r, name)...)
			l.Chain(rules.Filter, name, l.capRules(r)...)
		}
		if r.Out != nil {
			name := serviceChain("O", r.Tunnel)
			outTree = append(outTree, l.restrictedEntries(r.Destinations, tree.ByDestination, name, r.Tunnel)...)
			out = append(out, l.intoDevices(r, name)...)
			end := append(layout.LogRules(l.Log, "out", r.Name, r.Tunnel), rules.Rule{Target: rules.Target{Verb: rules.Reject}})
			l.Chain(rules.Filter, name, l.serviceRules(r, false, r.Out, end)...)
		}
	}
	l.Tree(tree.Spec{Table: rules.Filter, Root: layout.ChainRestrictIn, By: tree.BySource}, inTree)
	l.Tree(tree.Spec{Table: rules.Filter, Root: layout.ChainRestrictOut, By: tree.ByDestination}, outTree)
	in = append(in, rules.Rule{
		Policy: rules.PolicyMatch{Dir: rules.PolicyIn}, Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainRestrictIn}, Purpose: rules.PurposeDispatch,
	})
	out = append(out, rules.Rule{
		Policy: rules.PolicyMatch{Dir: rules.PolicyOut}, Target: rules.Target{Verb: rules.Jump, Chain: layout.ChainRestrictOut}, Purpose: rules.PurposeDispatch,
	})
	return in, out
}

// serviceChain names a chain of a tunnel, so that no other tunnel's coming or going
// renames it. The ID loses its first letter, which would be one too many for a name.
func serviceChain(letter, tunnel string) string {
	return layout.ChainService + letter + "-" + strings.TrimPrefix(tunnel, "t")
}

// restrictedEntries lead a tunnel's packets to its chain. Packets that are let in are
// verified, so their source is in the tree; errors from routers inside the tunnel are
// not, and belong to flows that were allowed.
func (l *filter) restrictedEntries(prefixes []firewall.RestrictedPrefix, by tree.Direction, chain, tunnel string) []tree.Entry {
	var entries []tree.Entry
	for _, p := range prefixes {
		if xfrm.FamilyOf(p.Prefix.Addr()) != l.Family {
			continue
		}
		r := rules.Rule{Policy: layout.PolicyIn(p.SA), Target: rules.Target{Verb: rules.Jump, Chain: chain}, Purpose: rules.PurposeDispatch, Tunnel: tunnel}
		if by == tree.ByDestination {
			r.Policy = layout.PolicyOut(p.SA)
		}
		*by.Field(&r) = p.Prefix
		entries = append(entries, layout.Entry(p.Prefix, r))
	}
	return entries
}

// serviceRules are a tunnel's chain: carriers, replies, the services, and the end.
func (l *filter) serviceRules(r *firewall.Restriction, inbound bool, services []firewall.Service, end []rules.Rule) []rules.Rule {
	list := append(l.carriers(r, inbound), rules.Rule{
		Ct: rules.CtMatch{State: rules.CtRelated | rules.CtEstablished}, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone, Tunnel: r.Tunnel,
	})
	for _, s := range services {
		rule := l.service(s)
		rule.Target, rule.Purpose, rule.Tunnel = rules.Target{Verb: rules.Return}, rules.PurposeService, r.Tunnel
		list = append(list, rule)
	}
	last := &end[len(end)-1]
	last.Purpose, last.Tunnel = rules.PurposeRestricted, r.Tunnel
	return append(list, end...)
}

// capRules keep packets into a tunnel within its cap.
func (l *filter) capRules(r *firewall.Restriction) []rules.Rule {
	var list []rules.Rule
	for _, p := range r.Remote {
		if xfrm.FamilyOf(p.Addr()) == l.Family {
			list = append(list, rules.Rule{Dst: p, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone, Tunnel: r.Tunnel})
		}
	}
	list = append(list, layout.LogRules(l.Log, "remote", r.Name, r.Tunnel)...)
	return append(list, rules.Rule{Target: rules.Target{Verb: rules.Reject}, Purpose: rules.PurposeRestricted, Tunnel: r.Tunnel})
}

// carriers pass the packets that carry an overlay device's, and those that carry small ones
// beside IPComp: the inner packets are restricted.
func (l *filter) carriers(r *firewall.Restriction, inbound bool) []rules.Rule {
	var list []rules.Rule
	for i := range r.Overlays {
		o := &r.Overlays[i]
		if o.VTI || xfrm.FamilyOf(o.Remote) != l.Family {
			continue
		}
		rule := layout.Carrier(o)
		rule.Target, rule.Purpose = rules.Target{Verb: rules.Return}, rules.PurposeDone
		if !inbound {
			rule.Src, rule.Dst = rule.Dst, rule.Src
		}
		list = append(list, rule)
	}
	for i := range l.IPComp {
		c := &l.IPComp[i]
		if !inbound || c.Tunnel != r.Tunnel || xfrm.FamilyOf(c.Remote) != l.Family {
			continue
		}
		list = append(list, rules.Rule{
			Src: prefix.Single(c.Remote), Dst: prefix.Single(c.Local), Proto: l.IPInIP(),
			Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone, Tunnel: r.Tunnel,
		})
	}
	return list
}

// service matches a service in the layout's family.
func (l *filter) service(s firewall.Service) rules.Rule {
	if s.Proto == xfrm.ICMP {
		s.Proto = l.ICMP()
	}
	return rules.Rule{Proto: s.Proto, DPorts: s.Ports}
}

// fromOverlays lead the inner packets of a tunnel's overlay devices to its chain. A
// packet with a security path did not come out of the device.
func (l *filter) fromOverlays(r *firewall.Restriction, chain string) []rules.Rule {
	noPath := rules.PolicyMatch{Dir: rules.PolicyIn, None: true}
	lead := func(name string, mark rules.MarkMatch, src netip.Prefix) rules.Rule {
		return rules.Rule{In: name, Mark: mark, Policy: noPath, Src: src, Target: rules.Target{Verb: rules.Jump, Chain: chain}, Purpose: rules.PurposeDispatch, Tunnel: r.Tunnel}
	}
	var list []rules.Rule
	for i := range r.Overlays {
		o := &r.Overlays[i]
		for _, name := range o.Devices {
			sources := l.OfFamily(o.Sources)
			if o.Sources == nil {
				sources = []netip.Prefix{{}}
			}
			for _, src := range sources {
				list = append(list, lead(name, layout.Has(l.Marks.Verified), src))
			}
		}
		if o.Sources != nil { // from an address that no tunnel of the device may send from
			list = append(list, lead(o.Devices[0], layout.Lacks(l.Marks.Verified), netip.Prefix{}))
		}
	}
	return list
}

// intoDevices lead packets into a tunnel's own devices to its chain. Where tunnels
// share a device, the destination tells.
func (l *filter) intoDevices(r *firewall.Restriction, chain string) []rules.Rule {
	var list []rules.Rule
	for i := range r.Into {
		way := &r.Into[i]
		if way.Remote.IsValid() && xfrm.FamilyOf(way.Remote.Addr()) != l.Family {
			continue
		}
		to := rules.Rule{
			Out: way.Device, Dst: way.Remote, Target: rules.Target{Verb: rules.Jump, Chain: chain}, Purpose: rules.PurposeDispatch, Tunnel: r.Tunnel,
		}
		if len(way.Except) > 0 {
			name := layout.StableName(layout.ChainService+"D", way.Device, way.Remote.String(), chain)
			var others []rules.Rule
			for _, p := range way.Except {
				others = append(others, rules.Rule{Dst: p, Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeDone, Tunnel: r.Tunnel})
			}
			l.Chain(rules.Filter, name, append(others, rules.Rule{Target: to.Target, Purpose: rules.PurposeDispatch, Tunnel: r.Tunnel})...)
			to.Target.Chain = name
		}
		list = append(list, to)
	}
	return list
}
