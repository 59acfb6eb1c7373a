package guard

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Config is the administrator's decisions on guards.
type Config struct {
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

// Remembered is the memory after a look at the kernel.
type Remembered struct {
	// Guards are the remembered ones, in the order in which they decide.
	Guards []Guard
	// Refused counts the pairs that it had no room for.
	Refused int
	// Unsafe are the pairs that are guarded only while their policies stand,
	// because the guard alone would cut this host from networks that it needs.
	Unsafe []Unsafe
}

// Unsafe is a pair that is not remembered, and why.
type Unsafe struct {
	Guard  Guard
	Reason string
}

// Remember returns the memory after a look at the kernel: the pairs in it that have
// not expired, and the pairs of live policies that may be remembered, with the
// exceptions that come before them. connections names the connections of live tunnels,
// by their ID, as far as they are known. now is in seconds of the memory's own clock,
// which goes by time observed. For any now, no guard ends earlier than the
// memory said.
//
// live are the guards in force, of which those of live policies count, in their
// order.
func Remember(memory, live []Guard, set xfrm.Set, host xfrm.Host, connections map[string]string, c Config, now int64) Remembered {
	if c.Forget {
		return Remembered{}
	}
	m := memorizer{
		host: host, now: now,
		expires: now + cmp.Or(c.Remember, DefaultRemember),
		names:   connections,
		counts:  make(map[quotaKey]int),
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
			m.count(g)
			m.held[g.key()] = heldPair{since: g.Since, expires: g.Expires, connection: g.Connection, known: true}
		}
	}
	m.look()
	fresh := m.fresh(live)
	for i := range memory {
		g := &memory[i]
		// An exception ends with its policy while the tunnel stands. A pair only
		// ever ages: no peer's doing takes a guard away.
		if g.Expires > now && !m.held[g.key()].fresh && !(g.Exception && m.tunnels[g.Tunnel] != nil) {
			fresh = append(fresh, *g)
		}
	}
	sortGuards(fresh, func(a, b *Guard) int { return cmp.Compare(a.Priority, b.Priority) })
	return Remembered{Guards: fresh, Refused: m.refused, Unsafe: m.unsafe}
}

// MergeMemory returns the pairs of two memories, the longer-lived of the two where
// both hold the same.
func MergeMemory(a, b []Guard) []Guard {
	merged := make([]Guard, 0, len(a))
	at := make(map[guardKey]int, len(a))
	for _, list := range [][]Guard{a, b} {
		for i := range list {
			g := &list[i]
			j, ok := at[g.key()]
			if !ok {
				at[g.key()] = len(merged)
				merged = append(merged, *g)
			} else if g.Expires > merged[j].Expires {
				merged[j] = *g
			}
		}
	}
	sortGuards(merged, func(a, b *Guard) int { return cmp.Compare(a.Priority, b.Priority) })
	return merged
}

type memorizer struct {
	host    xfrm.Host
	now     int64
	expires int64
	// held has the pairs of the memory, and new ones that it has room for.
	held    map[guardKey]heldPair
	tunnels map[string]*xfrm.Tunnel
	// The indexes of the host: its addresses and the networks that they connect, its
	// routes by destination and by router, and its devices.
	addresses, networks, routes, routers *prefix.Index
	links                                *device.Index
	// peers are the tunnels' outer addresses, sorted.
	peers []netip.Addr
	// names are the connections of tunnels, by their ID, and counts the pairs of each
	// connection, address and network.
	names   map[string]string
	counts  map[quotaKey]int
	refused int
	unsafe  []Unsafe
}

// heldPair is a pair in the memory: since and until when, whether it was
// there before, and whether it is live.
type heldPair struct {
	since, expires int64
	connection     string
	known, fresh   bool
}

// fresh are the live guards that may be remembered, in the order in which they
// decide, each with the exceptions before it that overlap it.
func (m *memorizer) fresh(all []Guard) []Guard {
	live := make([]Guard, 0, len(all))
	for i := range all {
		if g := &all[i]; g.Source == FromPolicy && g.Mark.Mask == 0 {
			live = append(live, *g)
		}
	}
	wanted := make([]bool, len(live))
	var exceptions []int
	for i := range live {
		g := &live[i]
		if g.Exception {
			exceptions = append(exceptions, i)
			continue
		}
		t := m.tunnels[g.Tunnel]
		if t == nil || !m.lasting(g, t) {
			continue
		}
		if reason := m.harm(g, t); reason != "" {
			m.unsafe = append(m.unsafe, Unsafe{*g, reason})
			continue
		}
		g.Connection = m.names[g.Tunnel]
		if !m.room(g) {
			m.refused++
			continue
		}
		wanted[i] = true
		for _, p := range exceptions {
			if live[p].Remote.Overlaps(g.Remote) && live[p].Local.Overlaps(g.Local) {
				wanted[p] = true
				live[p].Tunnel, live[p].Peer, live[p].Connection = g.Tunnel, g.Peer, g.Connection
			}
		}
	}
	fresh := live[:0]
	for i := range live {
		if !wanted[i] {
			continue
		}
		g := live[i]
		g.Source, g.Since, g.Expires = FromMemory, m.now, m.expires
		held := m.held[g.key()]
		if held.known {
			g.Since, g.Expires = min(held.since, m.now), max(held.expires, m.expires)
			g.Connection = cmp.Or(g.Connection, held.connection) // the hook's record does not outlive a boot
		}
		if !held.fresh {
			held.fresh = true
			m.held[g.key()] = held
		}
		fresh = append(fresh, g)
	}
	return fresh
}
