package firewall

import (
	"net/netip"
	"strconv"
)

// lanChain names the chain of a guard's exempt networks.
func lanChain(letter string, g *GuardFacts) string {
	return stableName(chainLAN+letter, g.Local.String(), g.Remote.String(), g.Proto.String(),
		g.LocalPort.String(), g.RemotePort.String(), strconv.FormatBool(g.Routed), g.Tunnel)
}

// besideLAN wraps a guard's final rules so that networks of other interfaces below its
// remote selector are spared, but not the tunnel's own peer: a chain of its own, left
// by RETURN towards the guards that come after. Letter tells its place; match is the
// guard's traffic.
func (l *layout) besideLAN(table Table, letter string, g *GuardFacts, match Rule, final []Rule) TreeEntry {
	if len(g.Exempt) == 0 {
		return entry(g.Remote, final...)
	}
	inbound := letter == "S"
	at := func(r Rule, p netip.Prefix) Rule {
		if inbound {
			r.Src = p
		} else {
			r.Dst = p
		}
		return r
	}
	var rules []Rule
	if g.Peer.IsValid() && g.Remote.Contains(g.Peer) {
		for _, r := range final {
			rules = append(rules, at(r, single(g.Peer)))
		}
	}
	for _, n := range g.Exempt {
		r := at(Rule{Target: Target{Verb: Return}, Purpose: PurposeLAN, Tunnel: g.Tunnel}, narrowerOf(n.Prefix, g.Remote))
		if inbound {
			r.In = n.Device
		} else {
			r.Out = n.Device
		}
		rules = append(rules, r)
	}
	name := lanChain(letter, g)
	l.chain(table, name, append(rules, final...)...)
	match.Target, match.Purpose, match.Tunnel = Target{Verb: Jump, Chain: name}, PurposeDispatch, g.Tunnel
	return entry(g.Remote, match)
}

// narrowerOf returns the narrower of two prefixes that overlap.
func narrowerOf(p, q netip.Prefix) netip.Prefix {
	if p.Bits() < q.Bits() {
		return q
	}
	return p
}
