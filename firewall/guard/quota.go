package guard

import (
	"net/netip"
	"slices"
)

// The memory's bounds. Peers narrow their own selectors and choose their outer
// address, so a connection, an address and a network each have a share of the room.
// A full share refuses new pairs: no peer can push out the pairs of others. An IPv6
// peer's address is its /64.
const (
	maxRemembered             = 20000
	MaxRememberedByConnection = 1024
	MaxRememberedByPeer       = 64
	MaxRememberedByNetwork    = 512 // of IPv4 /24, of IPv6 /48
)

// quotaKey is a connection, by its name, or the peers with addresses in a prefix.
type quotaKey struct {
	connection string
	peers      netip.Prefix
}

// quota is a part of the memory's room.
type quota struct {
	of   quotaKey
	most int
}

// quotas are the parts that a pair takes room of.
func quotas(g *Guard) []quota {
	list := make([]quota, 0, 3)
	if g.Connection != "" {
		list = append(list, quota{quotaKey{connection: g.Connection}, MaxRememberedByConnection})
	}
	if !g.Peer.IsValid() {
		if g.Connection == "" {
			list = append(list, quota{quotaKey{}, MaxRememberedByPeer})
		}
		return list
	}
	address, network := 64, 48
	if g.Peer.Is4() {
		address, network = 32, 24
	}
	return append(list,
		quota{quotaKey{peers: netip.PrefixFrom(g.Peer, address).Masked()}, MaxRememberedByPeer},
		quota{quotaKey{peers: netip.PrefixFrom(g.Peer, network).Masked()}, MaxRememberedByNetwork})
}

// room reports whether the memory can take a pair, and counts it.
func (m *memorizer) room(g *Guard) bool {
	if _, ok := m.held[g.key()]; ok {
		return true
	}
	if len(m.held) >= maxRemembered {
		return false
	}
	if slices.ContainsFunc(quotas(g), func(q quota) bool { return m.counts[q.of] >= q.most }) {
		return false
	}
	m.held[g.key()] = heldPair{}
	m.count(g)
	return true
}

func (m *memorizer) count(g *Guard) {
	for _, q := range quotas(g) {
		m.counts[q.of]++
	}
}
