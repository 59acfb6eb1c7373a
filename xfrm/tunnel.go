package xfrm

import (
	"cmp"
	"net/netip"
)

// Tunnel is one connection in an administrator's words: the policies that ask
// for the same transform, and the states that provide it. Transport mode is a
// tunnel too, between two hosts.
type Tunnel struct {
	// ID names the tunnel over rekeys, new reqids and restarts: it is a hash of
	// the tunnel's selectors. Two tunnels of a Set never share one.
	ID    string
	Reqid uint32
	// Proto is the transform that gives the protection, ESP or AH.
	Proto Proto
	// Mode is the outermost encapsulation. Comp is true if IPComp comes first: the ESP
	// state itself is then in transport mode.
	Mode Mode
	Comp bool
	// Local and Remote are the outer addresses, invalid where the policies
	// leave them open and no state tells them.
	Local, Remote netip.Addr
	// IfID is that of the inbound policies; 0 is none.
	IfID uint32
	// Optional is true if every policy lets the traffic pass without a state.
	Optional bool
	// Pairs are sorted and distinct.
	Pairs []Pair
	// SAs are the usable states, inbound first, then by SPI.
	SAs []SA
}

// Opportunistic reports whether the policies ask for IPsec with any host that has it: a
// trap with no peer and no reqid, which hosts without IPsec get exceptions from.
func (t *Tunnel) Opportunistic() bool { return t.Reqid == 0 && !Specified(t.Remote) && len(t.SAs) == 0 }

// Pair is one pair of selectors, seen from this host.
type Pair struct {
	// Local and Remote are masked and of one family.
	Local, Remote netip.Prefix
	// Proto is 0 for any. For ICMP the kernel keeps type and code in the source
	// and destination port, whichever way the packet goes; here the type is
	// then in LocalPort and the code in RemotePort.
	Proto                 Proto
	LocalPort, RemotePort PortMatch
	IfID                  uint32
	Mark                  Mark
	// Ifindex restricts the pair to one interface; 0 is any.
	Ifindex int32
	// OptionalDirs has bit 1<<Dir set for every direction in which the pair's policy lets
	// packets pass without an SA ("level use").
	OptionalDirs uint8
	// Dirs has bit 1<<Dir set for every direction that a policy stands for.
	Dirs uint8
	// Priority is the lowest priority number of the pair's policies, which is
	// the one that wins.
	Priority uint32
	// Index is the lowest index of the pair's policies. The kernel gives them in the
	// order in which policies come, and of equal priorities the older one wins
	// (net/xfrm/xfrm_policy.c, __xfrm_policy_eval_candidates).
	Index uint32
}

// Has reports whether a policy of that direction stands for the pair.
func (p Pair) Has(d Dir) bool { return p.Dirs&(1<<d) != 0 }

// Compare orders pairs by remote, local, protocol, ports, if_id, mark.
func (p Pair) Compare(o Pair) int {
	return cmp.Or(
		ComparePrefix(p.Remote, o.Remote),
		ComparePrefix(p.Local, o.Local),
		cmp.Compare(p.Proto, o.Proto),
		p.LocalPort.compare(o.LocalPort),
		p.RemotePort.compare(o.RemotePort),
		cmp.Compare(p.IfID, o.IfID),
		cmp.Compare(p.Mark.Value, o.Mark.Value),
		cmp.Compare(p.Mark.Mask, o.Mark.Mask),
		cmp.Compare(p.Ifindex, o.Ifindex),
	)
}

// Family is the family of the traffic inside.
func (p Pair) Family() Family {
	if p.Remote.Addr().Is4() {
		return IPv4
	}
	return IPv6
}

// SA is a state that serves a tunnel.
type SA struct {
	State
	Inbound bool
}

// Up reports whether the tunnel can carry traffic: a state stands in each
// direction that its policies ask for.
func (t Tunnel) Up() bool {
	in, out := false, false
	for _, sa := range t.SAs {
		in = in || sa.Inbound
		out = out || !sa.Inbound
	}
	wantIn, wantOut := false, false
	for _, p := range t.Pairs {
		wantIn = wantIn || p.Has(In) || p.Has(Fwd)
		wantOut = wantOut || p.Has(Out)
	}
	return (in || out) && (in || !wantIn) && (out || !wantOut)
}

// Exception is a policy that keeps traffic out of the tunnels: a bypass lets it pass in
// clear, a block drops it.
type Exception struct {
	// Pair is the policy's selector; its Dirs has one direction.
	Pair     Pair
	Action   Action
	Priority uint32
}

// Set is the tunnels and exceptions of a snapshot's states and policies.
type Set struct {
	// Tunnels are sorted by their first pair, then by ID.
	Tunnels []Tunnel
	// Exceptions are in SPD order: by priority, the lower first.
	Exceptions []Exception
	// Ignored lists the records that became no tunnel.
	Ignored []Ignored
}
