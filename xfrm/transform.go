package xfrm

import "net/netip"

// Transform is one SA on a packet's way, as policy matches see it.
type Transform struct {
	Proto Proto
	Mode  Mode
	Reqid uint32
	// Src and Dst are the outer addresses.
	Src, Dst netip.Addr
}
