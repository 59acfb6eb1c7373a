package decide

import (
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// segmentSize returns the limit of the TCP segment size of a tunnel's connections, 0
// for none.
func (d *decider) segmentSize(t *xfrm.Tunnel, m firewall.MSS, inner xfrm.Family) uint16 {
	if m.Auto {
		return segmentSize(t, d.links, inner)
	}
	return m.Size
}

// segmentSize computes the largest TCP segment that passes through a tunnel
// without being fragmented, from its outbound state: RFC 4303 for the sizes of
// ESP, the cipher's own RFC for IV and block. 0 is not known.
func segmentSize(t *xfrm.Tunnel, links *device.Index, inner xfrm.Family) uint16 {
	for _, sa := range t.SAs {
		if sa.Inbound || sa.Proto != xfrm.ESP {
			continue
		}
		room := uplinkMTU(t, links)
		if sa.Family == xfrm.IPv6 {
			room -= 40
		} else {
			room -= 20
		}
		if sa.Encap.Type == espInUDP {
			room -= 8
		}
		iv, block, icv := cipher(sa.Algs)
		room -= 8 + iv + icv // SPI and sequence number come before the IV
		room = room / block * block
		room -= 2 // pad length and next header
		if t.Mode != xfrm.TransportMode {
			room -= header(inner)
		}
		room -= 20 // TCP
		if room < 536 {
			return 0 // a link too small for TCP
		}
		return uint16(min(room, 65000))
	}
	return 0
}

func header(f xfrm.Family) int {
	if f == xfrm.IPv6 {
		return 40
	}
	return 20
}

// uplinkMTU is the smallest MTU of the interfaces towards the peer.
func uplinkMTU(t *xfrm.Tunnel, links *device.Index) int {
	mtu := 1500
	for i, name := range links.Uplinks(t.Remote, nil) {
		if l, ok := links.Link(name); ok && l.MTU > 0 && (i == 0 || l.MTU < mtu) {
			mtu = l.MTU
		}
	}
	return mtu
}

// cipher returns the lengths of the IV, the block that the payload is padded to
// and the integrity check value, in bytes. An unknown one is taken at its worst.
func cipher(a xfrm.Algs) (iv, block, icv int) {
	icv = int(a.ICVBits) / 8
	name := a.AEAD
	if name == "" {
		name = a.Crypt
	}
	switch {
	case strings.Contains(name, "gcm"), strings.Contains(name, "ccm"), strings.Contains(name, "ctr"),
		strings.Contains(name, "poly1305"), strings.Contains(name, "gmac"):
		return 8, 4, orWorst(icv, 16)
	case strings.Contains(name, "null"), name == "":
		return 0, 4, orWorst(icv, 32)
	case strings.Contains(name, "des"), strings.Contains(name, "blowfish"), strings.Contains(name, "cast5"):
		return 8, 8, orWorst(icv, 32)
	}
	return 16, 16, orWorst(icv, 32)
}

func orWorst(icv, worst int) int {
	if icv > 0 {
		return icv
	}
	return worst
}
