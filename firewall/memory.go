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
		set: set, host: host, now: now,
		expires: now + cmpOr(c.Remember, DefaultRemember),
		since:   make(map[guardKey]int64, len(memory)),
		counts:  make(map[netip.Addr]int),
		held:    make(map[guardKey]bool, len(memory)),
		live:    make(map[string]bool, len(set.Tunnels)),
	}
	for _, t := range set.Tunnels {
		m.live[t.ID] = true
	}
	for _, g := range memory {
		if g.Expires > now {
			m.since[g.key()] = g.Since
			m.counts[g.Peer]++
			m.held[g.key()] = true
		}
	}
	m.total = len(m.held)
	fresh = m.fresh(live)
	standing := make(map[guardKey]bool, len(fresh))
	for _, g := range fresh {
		standing[g.key()] = true
	}
	for _, g := range memory {
		// An exception ends with its policy while the tunnel stands. A pair only
		// ever ages: no peer's doing takes a guard away.
		if g.Expires > now && !standing[g.key()] && !(g.Pierce && m.live[g.Tunnel]) {
			fresh = append(fresh, g)
		}
	}
	slices.SortStableFunc(fresh, func(a, b Guard) int { return cmp.Compare(a.Priority, b.Priority) })
	return fresh, m.refused
}

func cmpOr(v, otherwise int64) int64 {
	if v != 0 {
		return v
	}
	return otherwise
}

type memorizer struct {
	set     xfrm.Set
	host    xfrm.Host
	now     int64
	expires int64
	since   map[guardKey]int64
	held    map[guardKey]bool
	live    map[string]bool
	counts  map[netip.Addr]int
	total   int
	refused int
}

// fresh are the live guards that may be remembered, in the order in which they
// decide, each with the exceptions before it that overlap it.
func (m *memorizer) fresh(all []Guard) []Guard {
	live := slices.DeleteFunc(slices.Clone(all), func(g Guard) bool { return g.Source != LiveGuard || g.Block })
	wanted := make([]bool, len(live))
	tunnels := make(map[string]xfrm.Tunnel, len(m.set.Tunnels))
	for _, t := range m.set.Tunnels {
		tunnels[t.ID] = t
	}
	var pierces []int
	for i, g := range live {
		if g.Pierce {
			pierces = append(pierces, i)
			continue
		}
		if !m.mayRemember(g, tunnels[g.Tunnel]) {
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
	var fresh []Guard
	for i, g := range live {
		if !wanted[i] {
			continue
		}
		g.Source, g.Since, g.Expires = MemoryGuard, m.now, m.expires
		if since, ok := m.since[g.key()]; ok {
			g.Since = since
		}
		fresh = append(fresh, g)
	}
	return fresh
}

// room reports whether the memory can take a pair, and counts it.
func (m *memorizer) room(g Guard) bool {
	if m.held[g.key()] {
		return true
	}
	if m.total >= maxRemembered || m.counts[g.Peer] >= maxRememberedByPeer {
		return false
	}
	m.held[g.key()] = true
	m.total++
	m.counts[g.Peer]++
	return true
}

// mayRemember reports whether a pair is a site's: one that would not cut this
// host from its own networks, from its peers or from the internet when the
// tunnel is gone.
func (m *memorizer) mayRemember(g Guard, t xfrm.Tunnel) bool {
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
	if !g.Remote.IsSingleIP() && !m.held[g.key()] && slices.ContainsFunc(m.set.Tunnels, func(t xfrm.Tunnel) bool {
		return t.Remote.IsValid() && g.Remote.Contains(t.Remote)
	}) {
		return false
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
	uplink := uplinks(t, m.host, nil)
	for _, r := range m.host.Routes {
		if r.Via.IsValid() && g.Remote.Contains(r.Via) {
			return false
		}
		// A network that lies behind another interface of this host is not the
		// peer's to claim.
		if l, ok := m.host.Link(r.Link); ok && r.Dst.Bits() != 0 && r.Dst.Overlaps(g.Remote) && l.Kind != "xfrm" &&
			l.Kind != "vti" && l.Kind != "vti6" && l.Name != "lo" && !slices.Contains(uplink, l.Name) {
			return false
		}
	}
	return true
}
