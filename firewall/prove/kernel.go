package prove

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// kernel derives sets of packets from the policies, the remembered and configured guards and
// the routes of a host. The facts, and Judge with them, have no part in it: what was decided
// wrongly is wrong in the rules and for Judge alike.
type kernel struct {
	*space.Space
	in    firewall.Input
	links *device.Index
	// carried are the overlay devices, which a tunnel protects.
	carried []device.Overlay
	routes  *prefix.Index
}

func newKernel(s *space.Space, in firewall.Input) *kernel {
	return &kernel{Space: s, in: in, links: device.NewIndex(in.Host), carried: device.Overlays(in.Set, in.Host)}
}

// guarded is a pair with traffic that belongs into a tunnel.
type guarded struct {
	xfrm.Pair
	peer netip.Addr
	// routed is true for a network that was routed into a tunnel device, and live where a
	// policy stands.
	routed, live bool
}

// pairs are those of policies, within all caps of the configuration, and of guards.
func (k *kernel) pairs() []guarded {
	var list []guarded
	for i := range k.in.Set.Tunnels {
		t := &k.in.Set.Tunnels[i]
		for _, p := range t.Pairs {
			if p.IfID != 0 || p.Mark.Mask != 0 || p.OptionalDirs != 0 || t.Opportunistic() || guard.Unfit(p) != "" {
				continue
			}
			for _, remote := range k.capped(p.Remote) {
				p.Remote = remote
				list = append(list, guarded{p, t.Remote, false, true})
			}
		}
	}
	for _, g := range k.in.Guards {
		if !g.Exception {
			list = append(list, guarded{g.Pair(), g.Peer, g.Routed, false})
		}
	}
	return slices.DeleteFunc(list, func(e guarded) bool { return e.Family() != k.Family })
}

// capped are the parts of a prefix within the caps of all tunnels that have one.
func (k *kernel) capped(p netip.Prefix) []netip.Prefix {
	parts := []netip.Prefix{p}
	for _, tc := range k.in.Config.Tunnels {
		if tc.Remote == nil {
			continue
		}
		var within []netip.Prefix
		for _, part := range parts {
			within = append(within, prefix.Intersect(part, tc.Remote)...)
		}
		parts = within
	}
	return parts
}

// strangers are the interfaces by which strangers come in: those of routes to the internet,
// or the configured ones, and those of routes to peers, also of tunnels that are gone.
func (k *kernel) strangers() []string {
	names := k.uplinks()
	add := func(r xfrm.Route) {
		if l, ok := k.leads(r); ok {
			names = append(names, l.Name)
		}
	}
	if len(names) == 0 { // no uplink is known
		for _, l := range k.in.Host.Links {
			add(xfrm.Route{Link: l.Index})
		}
	}
	peers := make(map[netip.Addr]bool)
	for i := range k.in.Set.Tunnels {
		peers[k.in.Set.Tunnels[i].Remote] = true
	}
	for _, g := range k.in.Guards {
		peers[g.Peer] = true
	}
	for peer := range peers {
		if r, ok := k.in.Host.Route(peer); ok {
			add(r)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// uniqueLocal is the part of the address space of IPv6 that sites give themselves (RFC 4193).
var uniqueLocal = netip.MustParsePrefix("fc00::/7")

// isInternet reports whether a route leads to more addresses than a site has.
func isInternet(route netip.Prefix) bool {
	return route.Bits() < 8 && !(uniqueLocal.Contains(route.Addr()) && route.Bits() >= uniqueLocal.Bits())
}

func (k *kernel) isTunnelDevice(l xfrm.Link) bool {
	return l.Kind == "xfrm" || device.IsVTI(l) || slices.ContainsFunc(k.carried, func(o device.Overlay) bool { return o.Devices[0] == l.Name })
}

// between are the packets between the ends of tunnels in clear by the interface in a field:
// out to the remote selector, or in from it.
func (k *kernel) between(by space.Field, at side) space.Set {
	far := at.dst
	if !at.out {
		far = k.Src
	}
	connected := k.connected(far, by)
	list := k.first(at, k.pairs(), func(e guarded) space.Set {
		keeps := connected
		if e.peer.IsValid() && xfrm.FamilyOf(e.peer) == k.Family {
			keeps = k.Minus(connected, k.LiesIn(far, prefix.Single(e.peer)))
		}
		if e.routed {
			keeps = k.Or(keeps, k.narrower(e.Remote, far, by))
		}
		return k.Minus(k.lies(e.Pair, at), keeps)
	})
	return k.And(list, k.byAny(by, k.strangers()))
}

func (k *kernel) byAny(by space.Field, names []string) space.Set {
	list := make([]space.Set, len(names))
	for i, name := range names {
		list[i] = k.Device(by, name)
	}
	return k.Union(list...)
}

// lies are the packets of a pair, out to its remote selector or in from it.
func (k *kernel) lies(p xfrm.Pair, at side) space.Set {
	c := k.Condition()
	source, destination, sport, port := p.Local, p.Remote, p.LocalPort, p.RemotePort
	if !at.out {
		source, destination, sport, port = p.Remote, p.Local, p.RemotePort, p.LocalPort
	}
	c.LiesIn(k.Src, source)
	c.LiesIn(at.dst, destination)
	if p.Proto != 0 {
		c.Number(k.Proto, uint64(p.Proto))
	}
	switch {
	case p.Proto.IsICMP():
		c.Masked(k.ICMPType, p.LocalPort)
		c.Masked(k.ICMPCode, p.RemotePort)
	case guard.Ported(p.Proto):
		c.Masked(k.SPort, sport)
		c.Masked(at.dport, port)
	}
	return c.Set()
}

// connected are the packets with the far end in a network of the interface in a field.
func (k *kernel) connected(far space.Classed, by space.Field) space.Set {
	var list []space.Set
	for _, a := range k.in.Host.Addresses {
		if l, ok := k.in.Host.Link(a.Link); ok && !a.Prefix.IsSingleIP() {
			list = append(list, k.And(k.LiesIn(far, a.Prefix.Masked()), k.byAny(by, device.WithMasters(k.in.Host, l))))
		}
	}
	return k.Union(list...)
}

// narrower are the packets with the far end in a route by the interface in a field that is
// more specific than a network which was routed into a tunnel device.
func (k *kernel) narrower(network netip.Prefix, far space.Classed, by space.Field) space.Set {
	if k.routes == nil {
		k.routes = prefix.NewIndex(len(k.in.Host.Routes), func(i int) netip.Prefix { return k.in.Host.Routes[i].Dst })
	}
	var list []space.Set
	for _, i := range k.routes.Overlapping(network) {
		r := &k.in.Host.Routes[i]
		if l, ok := k.in.Host.Link(r.Link); ok && r.Dst.Bits() > network.Bits() {
			list = append(list, k.And(k.LiesIn(far, r.Dst), k.byAny(by, device.WithMasters(k.in.Host, l))))
		}
	}
	return k.Union(list...)
}

// unnamed are the packets out of an SA with a source that the kernel does not give to its
// reqid: no policy of it has the source; or the policy is a device's and has all, and the
// source is routed into the device of another tunnel and not into its own.
func (k *kernel) unnamed() space.Set {
	named := make(map[uint32][]space.Set)
	var foreign []space.Set
	routed := space.None // into a device of any tunnel
	for i := range k.in.Set.Tunnels {
		for _, p := range k.in.Set.Tunnels[i].Pairs {
			into := k.links.RoutedInto(k.links.LinksOf(p), k.Family)
			routed = k.Or(routed, k.LiesInAny(k.Src, slices.DeleteFunc(into, isInternet)))
		}
	}
	for i := range k.in.Set.Tunnels {
		t := &k.in.Set.Tunnels[i]
		for _, p := range t.Pairs {
			if p.Family() != k.Family {
				continue
			}
			named[t.Reqid] = append(named[t.Reqid], k.LiesIn(k.Src, p.Remote))
			links := k.links.LinksOf(p)
			if own := k.links.RoutedInto(links, k.Family); p.Remote.Bits() < 8 && len(own) > 0 && !k.joinsSites() {
				foreign = append(foreign, k.And(k.outOf(t, links), k.Minus(routed, k.LiesInAny(k.Src, own))))
			}
		}
	}
	var known []space.Set
	for reqid, list := range named {
		known = append(known, k.And(k.ReqidIs(&k.Path, reqid), k.Union(list...)))
	}
	return k.Or(k.Minus(k.Bit(k.Path.Present), k.Union(known...)), k.Union(foreign...))
}

// outOf are the packets out of a tunnel by one of its devices.
func (k *kernel) outOf(t *xfrm.Tunnel, links []xfrm.Link) space.Set {
	var list []space.Set
	for _, l := range links {
		if l.Kind == "xfrm" {
			list = append(list, k.And(k.Bit(k.Path.Present), k.ReqidIs(&k.Path, t.Reqid)))
		} else { // which leaves no SA on the path
			list = append(list, k.Minus(k.Device(k.In, l.Name), k.Bit(k.Path.Present)))
		}
	}
	return k.Union(list...)
}

// joinsSites reports whether the configuration joins tunnels to sites.
func (k *kernel) joinsSites() bool {
	return slices.ContainsFunc(k.in.Config.Tunnels, func(tc firewall.TunnelConfig) bool { return tc.Site != "" })
}
