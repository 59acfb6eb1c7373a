package xfrm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
)

// nameTunnels gives every tunnel its ID: "t" and ten hexadecimal digits of a hash over
// its selectors, which a peer cannot make equal to another's. Reqid and outer addresses
// are left out, so that the ID survives a rekey, a restart of the IKE daemon and a peer
// that moves. They count only where two tunnels have the same selectors.
func nameTunnels(tunnels []Tunnel) {
	seen := make(map[string]int, len(tunnels))
	for i := range tunnels {
		tunnels[i].ID = tunnels[i].hash(false)
		seen[tunnels[i].ID]++
	}
	if len(seen) == len(tunnels) {
		return
	}
	for i := range tunnels {
		if seen[tunnels[i].ID] > 1 {
			tunnels[i].ID = tunnels[i].hash(true)
		}
	}
	// Tunnels that are alike even then differ in nothing that a rule could match: a
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
	var stack [512]byte
	b := put(stack[:0], uint64(t.Proto), uint64(t.Mode))
	for _, p := range t.Pairs {
		b = putPrefix(b, p.Local)
		b = putPrefix(b, p.Remote)
		b = put(b, uint64(p.Proto), uint64(p.IfID), uint64(p.Mark.Value), uint64(p.Mark.Mask), uint64(p.Ifindex),
			uint64(p.LocalPort.Port), uint64(p.LocalPort.Mask), uint64(p.RemotePort.Port), uint64(p.RemotePort.Mask))
	}
	if outer {
		local, remote := t.Local.As16(), t.Remote.As16()
		b = append(append(b, local[:]...), remote[:]...)
		b = put(b, uint64(t.Reqid))
	}
	sum := sha256.Sum256(b)
	id := [11]byte{'t'}
	hex.Encode(id[1:], sum[:5])
	return string(id[:])
}

func put(b []byte, values ...uint64) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func putPrefix(b []byte, p netip.Prefix) []byte {
	a := p.Addr().As16()
	return put(append(b, a[:]...), uint64(p.Addr().BitLen()), uint64(p.Bits()))
}
