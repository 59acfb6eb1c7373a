package firewall

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// GuardSource says why a pair of selectors is guarded.
type GuardSource string

// The sources of guards: a policy stands in the kernel, one stood there once,
// or the administrator named the pair.
const (
	LiveGuard   GuardSource = "live"
	MemoryGuard GuardSource = "memory"
	ConfigGuard GuardSource = "config"
)

// Guard is a pair of selectors whose traffic may only pass inside a tunnel, or
// (with Pierce set) an exception from such pairs.
type Guard struct {
	// Local is 0.0.0.0/0 or ::/0 where the destination alone decides.
	Local, Remote         netip.Prefix
	Proto                 xfrm.Proto
	LocalPort, RemotePort xfrm.PortMatch
	// Pierce lets the traffic pass: it stands for a bypass policy, or for a
	// block policy, of whose traffic the kernel itself takes care.
	Pierce bool
	// Dirs has bit 1<<Dir set for the policies' directions, as in xfrm.Pair.
	Dirs   uint8
	Source GuardSource
	// Peer is the outer address of the tunnel's other end, if known.
	Peer netip.Addr
	// Tunnel is the ID of the live tunnel, or of the one that is remembered.
	Tunnel string
	// Priority is the policy's: the lower number decides first.
	Priority uint32
	// Block tells of an exception that it is a block policy.
	Block bool
	// Routed tells that Remote is what is routed into a tunnel device, so that
	// a more specific route to elsewhere takes from it.
	Routed bool
	// Connection is the administrator's name of the remembered tunnel, if known.
	Connection string
	// Since and Expires are in seconds, 0 if unknown or never. A remembered guard's
	// are those of the memory's own clock.
	Since, Expires int64
}

// pair gives the guard's selectors the form that rules are made from.
func (g Guard) Pair() xfrm.Pair {
	return xfrm.Pair{Local: g.Local, Remote: g.Remote, Proto: g.Proto, LocalPort: g.LocalPort, RemotePort: g.RemotePort}
}

func (g Guard) Family() xfrm.Family { return xfrm.FamilyOf(g.Remote.Addr()) }

// inbound and outbound report whether an exception holds in that direction. A
// pair is guarded in both, whichever policies stand for it.
func (g Guard) Inbound() bool {
	return !g.Pierce || g.Dirs&(1<<xfrm.In|1<<xfrm.Fwd) != 0
}

func (g Guard) Outbound() bool { return !g.Pierce || g.Dirs&(1<<xfrm.Out) != 0 }

// LiveGuards are the guards that the policies of a set call for, in the order
// of the kernel's policy database: of two that cover a packet, the first decides.
func LiveGuards(set xfrm.Set, host xfrm.Host) []Guard {
	guards := make([]Guard, 0, len(set.Tunnels)+len(set.Exceptions))
	for i := range set.Tunnels {
		t := &set.Tunnels[i]
		for _, p := range t.Pairs {
			// With "level use" the administrator lets the traffic pass in clear.
			if p.Optional || !expressible(p) {
				continue
			}
			if !ported(p.Proto) {
				p.LocalPort, p.RemotePort = xfrm.PortMatch{}, xfrm.PortMatch{}
			}
			g := Guard{
				Local: p.Local, Remote: p.Remote, Proto: p.Proto, LocalPort: p.LocalPort, RemotePort: p.RemotePort,
				Dirs: p.Dirs, Source: LiveGuard, Peer: t.Remote, Tunnel: t.ID, Priority: p.Priority,
			}
			if p.IfID == 0 && p.Mark.Mask == 0 {
				guards = append(guards, g)
			} else {
				guards = append(guards, deviceGuards(g, p, host)...)
			}
		}
	}
	for _, e := range set.Exceptions {
		p := e.Pair
		if p.IfID != 0 || p.Mark.Mask != 0 || p.Ifindex != 0 || unfit(p) != "" {
			continue
		}
		guards = append(guards, Guard{
			Local: p.Local, Remote: p.Remote, Proto: p.Proto, LocalPort: p.LocalPort, RemotePort: p.RemotePort,
			Pierce: true, Dirs: p.Dirs, Source: LiveGuard, Priority: e.Priority, Block: e.Action == xfrm.Block,
		})
	}
	sortGuards(guards, compareGuards)
	return guards
}

// sortGuards sorts guards by their places, as they are large, and mostly in order.
func sortGuards(guards []Guard, compare func(a, b *Guard) int) {
	sorted := true
	for i := 1; i < len(guards) && sorted; i++ {
		sorted = compare(&guards[i-1], &guards[i]) <= 0
	}
	if sorted {
		return
	}
	order := make([]int, len(guards))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compare(&guards[a], &guards[b]) })
	before := slices.Clone(guards)
	for i, at := range order {
		guards[i] = before[at]
	}
}

func compareGuards(a, b *Guard) int {
	if n := compareSelectors(a, b); n != 0 {
		return n
	}
	return cmp.Or(cmpBool(b.Pierce, a.Pierce), cmp.Compare(a.Tunnel, b.Tunnel))
}

// compareSelectors orders guards by priority, the most specific first.
func compareSelectors(a, b *Guard) int {
	if a.Priority != b.Priority {
		return cmp.Compare(a.Priority, b.Priority)
	}
	if n := b.Remote.Bits() - a.Remote.Bits(); n != 0 {
		return n
	}
	if n := b.Local.Bits() - a.Local.Bits(); n != 0 {
		return n
	}
	return a.Pair().Compare(b.Pair())
}

// deviceGuards returns the guards of a pair that belongs to a device: of the prefixes
// that are routed there. The selectors say nothing then, and the peer may have chosen
// them. A marked pair without a device is guarded by its selectors.
func deviceGuards(g Guard, p xfrm.Pair, host xfrm.Host) []Guard {
	links := deviceLinks(p, host)
	if len(links) == 0 && p.IfID == 0 {
		return []Guard{g}
	}
	var guards []Guard
	for _, dst := range routedInto(links, host, p.Family()) {
		if dst.Bits() == 0 || neverJudged(dst.Addr()) {
			continue
		}
		for _, remote := range within(p.Remote, []netip.Prefix{dst}) {
			g.Remote, g.Routed = remote, true
			guards = append(guards, g)
		}
	}
	return guards
}

// neverJudged reports whether an address is none that a tunnel's site could have.
func neverJudged(a netip.Addr) bool {
	return a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// expressible reports whether rules can match the pair's ports.
func expressible(p xfrm.Pair) bool {
	_, _, l := p.LocalPort.Range()
	_, _, r := p.RemotePort.Range()
	return l && r
}

// guardKey is what makes two guards the same.
type guardKey struct {
	local, remote         netip.Prefix
	proto                 xfrm.Proto
	localPort, remotePort xfrm.PortMatch
	pierce                bool
	// dirs only counts for exceptions: pairs are guarded in both directions.
	dirs uint8
}

func (g Guard) key() guardKey {
	k := guardKey{g.Local, g.Remote, g.Proto, g.LocalPort, g.RemotePort, g.Pierce, 0}
	if g.Pierce {
		k.dirs = g.Dirs
	}
	return k
}

// allGuards are all that the rules enforce, in the order in which they decide:
// live and remembered ones by priority, as the kernel would, a live one before
// a remembered one; then configured ones. What is live is not repeated.
func allGuards(live, others []Guard) []Guard {
	if len(others) == 0 {
		return live // which is in that order
	}
	// What is remembered is live as a rule, and in the same order.
	var left []*Guard
	at := 0
	for i := range others {
		g := &others[i]
		for at < len(live) && compareSelectors(&live[at], g) < 0 {
			at++
		}
		if at == len(live) || live[at].key() != g.key() {
			left = append(left, g)
		}
	}
	if len(left) == 0 {
		return live
	}
	all := make([]Guard, 0, len(live)+len(left))
	all = append(all, live...)
	standing := make(map[guardKey]bool, len(live))
	for i := range live {
		standing[live[i].key()] = true
	}
	for _, g := range left {
		if !standing[g.key()] {
			standing[g.key()] = true
			all = append(all, *g)
		}
	}
	sortGuards(all, func(a, b *Guard) int {
		return cmp.Or(
			cmpBool(a.Source == ConfigGuard, b.Source == ConfigGuard),
			cmp.Compare(a.Priority, b.Priority),
			cmpBool(a.Source == MemoryGuard, b.Source == MemoryGuard),
		)
	})
	return all
}

func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
