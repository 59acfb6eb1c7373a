package firewall

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// lanSpots are the connected networks under a guard's remote selector, each on
// its own interface. A LAN is never cut from its own gateway.
func (b *builder) lanSpots(g Guard) []lanSpot {
	if !b.hasLANSpots(&g) {
		return nil
	}
	var spots []lanSpot
	for _, s := range b.connected {
		if s.network.Overlaps(g.Remote) {
			spots = append(spots, s)
		}
	}
	if !g.Routed {
		return spots
	}
	// What is routed into a device gives way to a more specific route elsewhere.
	for _, r := range b.Host.Routes {
		l, ok := b.Host.Link(r.Link)
		if !ok || l.Name == "lo" || b.isTunnelDevice(l.Name) || r.Dst.Bits() <= g.Remote.Bits() || !r.Dst.Overlaps(g.Remote) {
			continue
		}
		if s := (lanSpot{r.Dst, l.Name}); !slices.Contains(spots, s) {
			spots = append(spots, s)
		}
	}
	return spots
}

// hasLANSpots reports whether lanSpots may have any.
func (b *builder) hasLANSpots(g *Guard) bool {
	if g.Routed {
		return true
	}
	for i := range b.connected {
		if b.connected[i].network.Overlaps(g.Remote) {
			return true
		}
	}
	return false
}

// lanChain names the chain of a guard's connected networks.
func lanChain(letter string, g Guard) string {
	return stableName(chainLAN+letter, g.Local.String(), g.Remote.String(), g.Proto.String(),
		g.LocalPort.String(), g.RemotePort.String(), strconv.FormatBool(g.Routed), g.Tunnel)
}

// lanSpot is a network that an interface is connected to.
type lanSpot struct {
	network netip.Prefix
	device  string
}

// connectedNetworks lists the networks of this host's interfaces, without the
// tunnel devices and without its single addresses.
func connectedNetworks(host xfrm.Host, tunnelDevice func(string) bool) []lanSpot {
	var spots []lanSpot
	for _, a := range host.Addresses {
		l, ok := host.Link(a.Link)
		if !ok || l.Name == "lo" || a.Prefix.IsSingleIP() || a.Prefix.Bits() == 0 || tunnelDevice(l.Name) || neverJudged(a.Prefix.Addr()) {
			continue
		}
		s := lanSpot{a.Prefix.Masked(), l.Name}
		if !slices.Contains(spots, s) {
			spots = append(spots, s)
		}
	}
	return spots
}

// guarded wraps a guard's final rules so that the connected networks below it
// are spared, but not the tunnel's own peer: a chain of its own, left by RETURN
// towards the guards that come after. letter tells its place; source, that the
// remote is the source.
func (b *builder) guarded(table Table, letter string, g Guard, source bool, jump Rule, final []Rule) []Rule {
	spots := b.lanSpots(g)
	if len(spots) == 0 {
		return final
	}
	name := lanChain(letter, g)
	at := func(r Rule, p netip.Prefix) Rule {
		if source {
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
	for _, s := range spots {
		network := s.network
		if network.Bits() < g.Remote.Bits() {
			network = g.Remote
		}
		r := at(Rule{Target: Target{Verb: Return}, Purpose: PurposeLAN, Tunnel: g.Tunnel}, network)
		if source {
			r.In = s.device
		} else {
			r.Out = s.device
		}
		rules = append(rules, r)
	}
	// One tunnel may have a pair twice, with and without a device.
	if key := string(table) + name; !b.made[key] {
		b.made[key] = true
		b.chain(table, name, append(rules, final...)...)
	}
	jump.Target, jump.Purpose, jump.Tunnel = Target{Verb: Jump, Chain: name}, PurposeDispatch, g.Tunnel
	return []Rule{jump}
}
