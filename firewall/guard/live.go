package guard

import (
	"math"
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Live are the guards that the policies of a set call for, in the order
// of the kernel's policy database: of two that cover a packet, the first decides.
func Live(set xfrm.Set, host xfrm.Host) []Guard {
	guards := make([]Guard, 0, len(set.Tunnels)+len(set.Exceptions))
	ages, links := agesOf(set), device.NewIndex(host)
	for i := range set.Tunnels {
		t := &set.Tunnels[i]
		for _, p := range t.Pairs {
			if !expressible(p) || Unguarded(t, p, links) != "" {
				continue
			}
			if optional, ok := optionalGuard(t, p); ok {
				guards = append(guards, optional)
				ages.note(guards[len(guards)-1:], p.Index)
			}
			if p.OptionalDirs == p.Dirs {
				continue
			}
			if !Ported(p.Proto) {
				p.LocalPort, p.RemotePort = xfrm.PortMatch{}, xfrm.PortMatch{}
			}
			g := Guard{
				Local: p.Local, Remote: p.Remote, Proto: p.Proto, LocalPort: p.LocalPort, RemotePort: p.RemotePort,
				Dirs: p.Dirs, Source: FromPolicy, Peer: t.Remote, Tunnel: t.ID, Priority: p.Priority,
			}
			from := len(guards)
			if p.IfID == 0 && p.Mark.Mask == 0 {
				guards = append(guards, g)
			} else {
				guards = append(guards, deviceGuards(g, p, links)...)
			}
			ages.note(guards[from:], p.Index)
		}
	}
	guards = append(guards, overlayGuards(set, host, links)...)
	for _, e := range set.Exceptions {
		p := e.Pair
		// The guards drop the packets of a block policy as the kernel does. An exception
		// would rely on the kernel's check, which disable_policy switches off.
		if e.Action == xfrm.Block || Unhonoured(p) != "" {
			continue
		}
		guards = append(guards, Guard{
			Local: p.Local, Remote: p.Remote, Proto: p.Proto, LocalPort: p.LocalPort, RemotePort: p.RemotePort,
			Exception: true, Dirs: p.Dirs, Mark: p.Mark, Source: FromPolicy, Priority: e.Priority,
		})
		ages.note(guards[len(guards)-1:], p.Index)
	}
	sortGuards(guards, compareGuards)
	ages.sort(guards)
	return guards
}

// optionalGuard returns the exception that a pair is in the directions of its policies
// with "level use": there the administrator lets packets pass in clear.
func optionalGuard(t *xfrm.Tunnel, p xfrm.Pair) (Guard, bool) {
	if p.OptionalDirs == 0 || p.IfID != 0 || p.Mark.Mask != 0 || Unhonoured(p) != "" {
		return Guard{}, false
	}
	return Guard{
		Local: p.Local, Remote: p.Remote, Proto: p.Proto, LocalPort: p.LocalPort, RemotePort: p.RemotePort,
		Exception: true, Dirs: p.OptionalDirs, Source: FromPolicy, Peer: t.Remote, Tunnel: t.ID, Priority: p.Priority,
	}, true
}

// Unguarded returns the reason why a pair of a policy has no guard, or nothing.
func Unguarded(t *xfrm.Tunnel, p xfrm.Pair, links *device.Index) string {
	switch {
	case p.Mark.Mask != 0 && p.IfID == 0 && len(links.LinksOf(p)) == 0:
		return "the mark " + p.Mark.String() + " chooses its packets, so nothing tells them in clear from others: the kernel alone holds them, while the policy stands"
	case t.Opportunistic():
		return "opportunistic: hosts without IPsec are answered in clear, so the kernel alone holds its packets, while the policy stands"
	}
	return ""
}

// Unhonoured returns the reason why no rule can make the exception that a bypass
// policy is, or nothing.
func Unhonoured(p xfrm.Pair) string {
	switch {
	case p.IfID != 0:
		return "it holds on xfrm interfaces alone"
	case p.Ifindex != 0:
		return "it holds on one interface alone, which no rule of a guard tells"
	}
	return Unfit(p)
}

// deviceGuards returns the guards of a pair that belongs to a device: of the prefixes
// that are routed there, but not of the internet, because that would cut the host off. The
// selectors say nothing then, and the peer may have chosen them.
func deviceGuards(g Guard, p xfrm.Pair, links *device.Index) []Guard {
	var guards []Guard
	for _, dst := range links.RoutedInto(links.LinksOf(p), p.Family()) {
		if device.IsInternet(dst) || NeverJudged(dst.Addr()) {
			continue
		}
		for _, remote := range prefix.Intersect(p.Remote, []netip.Prefix{dst}) {
			g.Remote, g.Routed = remote, true
			guards = append(guards, g)
		}
	}
	return guards
}

// overlayGuards returns the guards of networks routed into overlay devices that a tunnel
// protects, from any source. No policy stands for them, so any exception of a policy
// decides first, and the kernel holds none of their packets.
func overlayGuards(set xfrm.Set, host xfrm.Host, links *device.Index) []Guard {
	var guards []Guard
	places := make(map[string]int, len(set.Tunnels))
	for i := range set.Tunnels {
		places[set.Tunnels[i].ID] = i
	}
	guarded := make(map[netip.Prefix]bool)
	for _, o := range device.Overlays(set, host) {
		if t := &set.Tunnels[places[o.Tunnel]]; o.VTI || t.Optional {
			continue
		}
		for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
			for _, dst := range links.RoutedInto(links.OwnLinks(&o), family) {
				if dst.Bits() < 8 || NeverJudged(dst.Addr()) || guarded[dst] {
					continue
				}
				guarded[dst] = true
				guards = append(guards, Guard{
					Local: netip.PrefixFrom(dst.Addr(), 0).Masked(), Remote: dst, Source: FromPolicy, Peer: o.Remote, Tunnel: o.Tunnel,
					Priority: math.MaxUint32, Routed: true,
				})
			}
		}
	}
	return guards
}
