package decide

import (
	"cmp"
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// espInUDP is the encapsulation type of ESP in UDP (UDP_ENCAP_ESPINUDP, linux/udp.h).
const espInUDP = 2

// hasOwnEncapPort reports whether ESP in UDP arrives for an SA on a port of its own.
// The local end alone counts, because the peer chooses its own.
func hasOwnEncapPort(sa *xfrm.SA) bool {
	return sa.Inbound && sa.Encap.Type == espInUDP && sa.Encap.DPort != firewall.NATT && sa.Encap.DPort != 0
}

func encapPort(sa *xfrm.SA) netip.AddrPort { return netip.AddrPortFrom(sa.Dst, sa.Encap.DPort) }

// outerFlow is the outer packets of an inbound SA.
func outerFlow(sa *xfrm.SA, tunnel string) firewall.OuterFlow {
	o := firewall.OuterFlow{Peer: sa.Src, Local: sa.Dst, Proto: sa.Proto, Tunnel: tunnel}
	if sa.Encap.Type == espInUDP {
		o.Proto, o.Port = xfrm.UDP, sa.Encap.DPort
	}
	return o
}

func compareOuterFlows(x, y firewall.OuterFlow) int {
	return cmp.Or(x.Peer.Compare(y.Peer), x.Local.Compare(y.Local), cmp.Compare(x.Proto, y.Proto),
		cmp.Compare(x.Port, y.Port), cmp.Compare(x.Tunnel, y.Tunnel))
}
