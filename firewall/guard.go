package firewall

import (
	"net/netip"

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
