package firewall

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// GuardConfig is what the administrator decided about guards.
type GuardConfig struct {
	// Forget keeps nothing in memory: guards end with their policies.
	Forget bool
	// Remember is how long a pair is guarded after it was last seen, in seconds.
	// Zero stands for DefaultRemember.
	Remember int64
	// Pairs are always guarded.
	Pairs []Guard
	// Asymmetric names interfaces on which LAN hosts' packets may arrive
	// although the way back leads elsewhere; case 6b is not judged there.
	Asymmetric []string
}

// DefaultRemember is 30 days.
const DefaultRemember = 30 * 24 * 3600

// The memory's bounds. Peers narrow their own selectors, so what they can make
// us remember is limited, and what is full refuses the new: nobody can push out
// what others rely on.
const (
	maxRemembered       = 20000
	maxRememberedByPeer = 64
)

// Remember returns the memory after a look at the kernel: what it held that has
// not expired, and the pairs of live policies that may be remembered, with the
// exceptions that come before them. now is in seconds since the epoch.
//
// live are the guards in force, of which those of live policies count, in their
// order. refused is how many pairs the memory had no room for.
func Remember(memory, live []Guard, set xfrm.Set, host xfrm.Host, c GuardConfig, now int64) (fresh []Guard, refused int) {
	if c.Forget {
		return nil, 0
	}
	m := memorizer{
		host: host, now: now,
		expires: now + cmpOr(c.Remember, DefaultRemember),
		counts:  make(map[netip.Addr]int),
		held:    make(map[guardKey]heldPair, len(memory)),
		tunnels: make(map[string]*xfrm.Tunnel, len(set.Tunnels)),
	}
	for i := range set.Tunnels {
		t := &set.Tunnels[i]
		m.tunnels[t.ID] = t
		if t.Remote.IsValid() {
			m.peers = append(m.peers, t.Remote)
		}
	}
	slices.SortFunc(m.peers, netip.Addr.Compare)
	for i := range memory {
		if g := &memory[i]; g.Expires > now {
			m.counts[g.Peer]++
			m.held[g.key()] = heldPair{since: g.Since, known: true}
		}
	}
	fresh = m.fresh(live)
	for i := range memory {
		g := &memory[i]
		// An exception ends with its policy while the tunnel stands. A pair only
		// ever ages: no peer's doing takes a guard away.
		if g.Expires > now && !m.held[g.key()].fresh && !(g.Pierce && m.tunnels[g.Tunnel] != nil) {
			fresh = append(fresh, *g)
		}
	}
	sortGuards(fresh, func(a, b *Guard) int { return cmp.Compare(a.Priority, b.Priority) })
	return fresh, m.refused
}

func cmpOr(v, otherwise int64) int64 {
	if v != 0 {
		return v
	}
	return otherwise
}

type memorizer struct {
	host    xfrm.Host
	now     int64
	expires int64
	// held has what the memory had, and what it has room for besides.
	held    map[guardKey]heldPair
	tunnels map[string]*xfrm.Tunnel
	// peers are the tunnels' outer addresses, sorted.
	peers   []netip.Addr
	counts  map[netip.Addr]int
	refused int
}

// heldPair is what the memory knows of a pair: since when, whether it was there
// before, and whether it is live.
type heldPair struct {
	since        int64
	known, fresh bool
}

// fresh are the live guards that may be remembered, in the order in which they
// decide, each with the exceptions before it that overlap it.
func (m *memorizer) fresh(all []Guard) []Guard {
	live := make([]Guard, 0, len(all))
	for i := range all {
		if g := &all[i]; g.Source == LiveGuard && !g.Block {
			live = append(live, *g)
		}
	}
	wanted := make([]bool, len(live))
	var pierces []int
	for i := range live {
		g := &live[i]
		if g.Pierce {
			pierces = append(pierces, i)
			continue
		}
		t := m.tunnels[g.Tunnel]
		if t == nil || !m.mayRemember(g, t) {
			continue
		}
		if !m.room(g) {
			m.refused++
			continue
		}
		wanted[i] = true
		for _, p := range pierces {
			if live[p].Remote.Overlaps(g.Remote) && live[p].Local.Overlaps(g.Local) {
				wanted[p] = true
				live[p].Tunnel, live[p].Peer = g.Tunnel, g.Peer
			}
		}
	}
	fresh := live[:0]
	for i := range live {
		if !wanted[i] {
			continue
		}
		g := live[i]
		g.Source, g.Since, g.Expires = MemoryGuard, m.now, m.expires
		held := m.held[g.key()]
		if held.known {
			g.Since = held.since
		}
		if !held.fresh {
			held.fresh = true
			m.held[g.key()] = held
		}
		fresh = append(fresh, g)
	}
	return fresh
}

// room reports whether the memory can take a pair, and counts it.
func (m *memorizer) room(g *Guard) bool {
	if _, ok := m.held[g.key()]; ok {
		return true
	}
	if len(m.held) >= maxRemembered || m.counts[g.Peer] >= maxRememberedByPeer {
		return false
	}
	m.held[g.key()] = heldPair{}
	m.counts[g.Peer]++
	return true
}

// hasPeer reports whether a peer's outer address lies in a prefix.
func (m *memorizer) hasPeer(p netip.Prefix) bool {
	at, _ := slices.BinarySearchFunc(m.peers, p.Masked().Addr(), netip.Addr.Compare)
	return at < len(m.peers) && p.Contains(m.peers[at])
}

// mayRemember reports whether a pair is a site's: one that would not cut this
// host from its own networks, from its peers or from the internet when the
// tunnel is gone.
func (m *memorizer) mayRemember(g *Guard, t *xfrm.Tunnel) bool {
	if g.Remote.Bits() == 0 || unfit(g.pair()) != "" {
		return false
	}
	// A single address inside a tunnel is a road warrior's lease, which somebody
	// else may have tomorrow. The peer's own address is not.
	if g.Remote.IsSingleIP() && t.Mode != xfrm.TransportMode && g.Remote.Addr() != t.Remote {
		return false
	}
	// What was remembered before a peer came up inside it, whose packets go through
	// this tunnel, say, is seen again all the same: no peer takes a guard away.
	if !g.Remote.IsSingleIP() && m.hasPeer(g.Remote) {
		if _, ok := m.held[g.key()]; !ok {
			return false
		}
	}
	if slices.ContainsFunc(m.host.Resolvers, g.Remote.Contains) {
		return false
	}
	for _, a := range m.host.Addresses {
		// A connected network, unless it is the segment that the peer itself is on.
		if !a.Prefix.IsSingleIP() && g.Remote.Bits() <= a.Prefix.Bits() && g.Remote.Overlaps(a.Prefix.Masked()) {
			return false
		}
		if g.Remote.Contains(a.Prefix.Addr()) {
			return false
		}
	}
	var uplink []string
	for _, r := range m.host.Routes {
		if r.Via.IsValid() && g.Remote.Contains(r.Via) {
			return false
		}
		// A network that lies behind another interface of this host is not the
		// peer's to claim.
		if r.Dst.Bits() == 0 || !r.Dst.Overlaps(g.Remote) {
			continue
		}
		if uplink == nil {
			uplink = append(uplinks(*t, m.host, nil), "lo")
		}
		if l, ok := m.host.Link(r.Link); ok && l.Kind != "xfrm" && l.Kind != "vti" && l.Kind != "vti6" && !slices.Contains(uplink, l.Name) {
			return false
		}
	}
	return true
}
