package compile

import (
	"net/netip"
	"strconv"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
)

// lanChain names the chain of a guard's exempt networks.
func lanChain(letter string, g *firewall.GuardFacts) string {
	return layout.StableName(layout.ChainLAN+letter, g.Local.String(), g.Remote.String(), g.Proto.String(),
		g.LocalPort.String(), g.RemotePort.String(), strconv.FormatBool(g.Routed), g.Tunnel)
}

// besideLAN wraps a guard's final rules so that networks of other interfaces below its
// remote selector are spared, but not the tunnel's own peer: a chain of its own, left
// by RETURN towards the guards that come after. Letter tells its place; match is the
// guard's traffic.
func (l *cases) besideLAN(table rules.Table, letter string, g *firewall.GuardFacts, match rules.Rule, final []rules.Rule) tree.Entry {
	if len(g.Exempt) == 0 {
		return layout.Entry(g.Remote, final...)
	}
	inbound := letter == "S"
	at := func(r rules.Rule, p netip.Prefix) rules.Rule {
		if inbound {
			r.Src = p
		} else {
			r.Dst = p
		}
		return r
	}
	var list []rules.Rule
	if g.Peer.IsValid() && g.Remote.Contains(g.Peer) {
		for _, r := range final {
			list = append(list, at(r, prefix.Single(g.Peer)))
		}
	}
	for _, n := range g.Exempt {
		r := at(rules.Rule{Target: rules.Target{Verb: rules.Return}, Purpose: rules.PurposeLAN, Tunnel: g.Tunnel}, narrowerOf(n.Prefix, g.Remote))
		if inbound {
			r.In = n.Device
		} else {
			r.Out = n.Device
		}
		list = append(list, r)
	}
	name := lanChain(letter, g)
	l.Chain(table, name, append(list, final...)...)
	match.Target, match.Purpose, match.Tunnel = rules.Target{Verb: rules.Jump, Chain: name}, rules.PurposeDispatch, g.Tunnel
	return layout.Entry(g.Remote, match)
}

// narrowerOf returns the narrower of two prefixes that overlap.
func narrowerOf(p, q netip.Prefix) netip.Prefix {
	if p.Bits() < q.Bits() {
		return q
	}
	return p
}
