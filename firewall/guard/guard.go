// Package guard has the pairs of selectors with traffic that may only pass inside a
// tunnel. They are from live policies, from policies that stood before, and from the
// configuration. The package has the order in which they decide, and selects those that
// outlive their policies.
//
// live.go has the guards of policies, order.go and age.go their order, remember.go the memory
// with its bounds (quota.go) and the pairs that it must leave out (harm.go), line.go the routes
// beside a tunnel. The package makes no rule and keeps no file: package decide turns guards into
// facts, and cmd/xfrmfw/internal/memory stores them.
package guard

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Source is the reason why a pair of selectors is guarded.
type Source string

// The sources of guards: a policy in the kernel, a policy that was there before, or the
// configuration.
const (
	FromPolicy Source = "live"
	FromMemory Source = "memory"
	FromConfig Source = "config"
)

// A Guard is a pair of selectors with traffic that may only pass inside a tunnel, or
// (with Exception set) an exception from such pairs.
type Guard struct {
	// Local is 0.0.0.0/0 or ::/0 where the destination alone decides.
	Local, Remote         netip.Prefix
	Proto                 xfrm.Proto
	LocalPort, RemotePort xfrm.PortMatch
	// Exception is true if the traffic passes. The guard stands for a bypass policy, or
	// for a policy that asks for no SA ("level use").
	Exception bool
	// Dirs has bit 1<<Dir set for the policies' directions, as in xfrm.Pair.
	Dirs   uint8
	Source Source
	// Peer is the outer address of the tunnel's other end, if known.
	Peer netip.Addr
	// Tunnel is the ID of the live tunnel, or of the one that is remembered.
	Tunnel string
	// Priority is the policy's: the lower number decides first.
	Priority uint32
	// Mark is that of an exception with a policy that the kernel finds by the packet's
	// mark.
	Mark xfrm.Mark
	// Routed is true if Remote is routed into a tunnel device, so that a more specific
	// route to elsewhere takes from it.
	Routed bool
	// Connection is the administrator's name of the remembered tunnel, if known.
	Connection string
	// Since and Expires are in seconds, 0 if unknown or never. A remembered guard's
	// are those of the memory's own clock.
	Since, Expires int64
}

// Pair returns the guard's selectors.
func (g Guard) Pair() xfrm.Pair {
	return xfrm.Pair{Local: g.Local, Remote: g.Remote, Proto: g.Proto, LocalPort: g.LocalPort, RemotePort: g.RemotePort}
}

// Family returns the family of the guard's selectors.
func (g Guard) Family() xfrm.Family { return xfrm.FamilyOf(g.Remote.Addr()) }

// Fits reports whether an exception holds for packets with a mark.
func (g Guard) Fits(mark uint32) bool { return mark&g.Mark.Mask == g.Mark.Value }

// Enters reports whether the guard decides on packets from the remote selector for this
// host: an exception holds by the direction of its policy.
func (g Guard) Enters() bool { return !g.Exception || g.Dirs&(1<<xfrm.In) != 0 }

// Passes is Enters for forwarded packets.
func (g Guard) Passes() bool { return !g.Exception || g.Dirs&(1<<xfrm.Fwd) != 0 }

// Inbound reports whether the guard decides on packets from the remote selector. A pair
// is guarded in both directions; an exception holds in those of its policy.
func (g Guard) Inbound() bool {
	return !g.Exception || g.Dirs&(1<<xfrm.In|1<<xfrm.Fwd) != 0
}

// Outbound reports whether the guard decides on packets to the remote selector.
func (g Guard) Outbound() bool { return !g.Exception || g.Dirs&(1<<xfrm.Out) != 0 }
