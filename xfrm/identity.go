package xfrm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"net/netip"
	"slices"
)

// nameTunnels gives every tunnel its ID: "t" and ten hexadecimal digits of a
// hash over what it protects, one that no peer can aim at another's. Reqid and outer addresses are left out, so that
// the name survives a rekey, a restart of the IKE daemon and a peer that moves.
// Only where two tunnels protect the very same do their addresses and reqid
// count too.
func nameTunnels(tunnels []Tunnel) {
	seen := make(map[string]int, len(tunnels))
	for i := range tunnels {
		tunnels[i].ID = tunnels[i].hash(false)
		seen[tunnels[i].ID]++
	}
	for i := range tunnels {
		if seen[tunnels[i].ID] > 1 {
			tunnels[i].ID = tunnels[i].hash(true)
		}
	}
	// What is alike even then differs in nothing that a rule could match: a
	// running number keeps the names apart.
	clear(seen)
	order := make([]int, len(tunnels))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return tunnels[a].Pairs[0].Compare(tunnels[b].Pairs[0]) })
	for _, i := range order {
		id := tunnels[i].ID
		seen[id]++
		if n := seen[id]; n > 1 {
			tunnels[i].ID += "-" + hex.EncodeToString([]byte{byte(n >> 8), byte(n)})
		}
	}
}

func (t Tunnel) hash(outer bool) string {
	h := sha256.New()
	put(h, uint64(t.Proto), uint64(t.Mode))
	for _, p := range t.Pairs {
		putPrefix(h, p.Local)
		putPrefix(h, p.Remote)
		put(h, uint64(p.Proto), uint64(p.IfID), uint64(p.Mark.Value), uint64(p.Mark.Mask), uint64(p.Ifindex),
			uint64(p.LocalPort.Port), uint64(p.LocalPort.Mask), uint64(p.RemotePort.Port), uint64(p.RemotePort.Mask))
	}
	if outer {
		local, remote := t.Local.As16(), t.Remote.As16()
		_, _ = h.Write(local[:])
		_, _ = h.Write(remote[:])
		put(h, uint64(t.Reqid))
	}
	sum := h.Sum(nil)
	return "t" + hex.EncodeToString(sum[:5])
}

func put(h hash.Hash, values ...uint64) {
	for _, v := range values {
		_ = binary.Write(h, binary.BigEndian, v)
	}
}

func putPrefix(h hash.Hash, p netip.Prefix) {
	a := p.Addr().As16()
	_, _ = h.Write(a[:])
	put(h, uint64(p.Addr().BitLen()), uint64(p.Bits()))
}
