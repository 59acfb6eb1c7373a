package guard

import (
	"fmt"
	"net/netip"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Unfit returns the reason why no rule can match exactly the traffic of a pair, or
// nothing.
func Unfit(p xfrm.Pair) string {
	for _, ports := range []xfrm.PortMatch{p.LocalPort, p.RemotePort} {
		if _, _, ok := ports.Range(); !ok {
			return fmt.Sprintf("port mask %s is no range, which iptables can't match", ports)
		}
		if !ports.Any() && !Ported(p.Proto) {
			return fmt.Sprintf("iptables knows no ports of protocol %s", p.Proto)
		}
	}
	return ""
}

// Ported reports whether rules can match a protocol's ports, or ICMP's types.
func Ported(p xfrm.Proto) bool {
	switch p {
	case xfrm.TCP, xfrm.UDP, xfrm.SCTP, xfrm.ICMP, xfrm.ICMPv6:
		return true
	}
	return false
}

// expressible reports whether rules can match the pair's ports.
func expressible(p xfrm.Pair) bool {
	_, _, l := p.LocalPort.Range()
	_, _, r := p.RemotePort.Range()
	return l && r
}

// NeverJudged reports whether a cannot belong to a site behind a tunnel: loopback,
// multicast, link-local or broadcast.
func NeverJudged(a netip.Addr) bool {
	return a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
