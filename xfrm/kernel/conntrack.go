package kernel

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// A Pair is a pair of networks between which flows are to go through a tunnel.
type Pair struct{ Local, Remote netip.Prefix }

// ForgetRewritten deletes the conntrack entries of flows between the pairs'
// networks whose local end was or will be rewritten to something outside the
// local network: NAT took hold of them before their tunnel came up, and never
// looks again. It returns how many were deleted.
func ForgetRewritten(pairs []Pair) (int, error) {
	deleted := 0
	for _, f := range []struct {
		family netlink.InetFamily
		is4    bool
	}{{netlink.FAMILY_V4, true}, {netlink.FAMILY_V6, false}} {
		var filter rewritten
		for _, p := range pairs {
			if p.Remote.Addr().Is4() == f.is4 {
				filter = append(filter, p)
			}
		}
		if len(filter) == 0 {
			continue
		}
		n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, f.family, filter)
		deleted += int(n)
		if err != nil {
			return deleted, fmt.Errorf("delete conntrack entries: %w", err)
		}
	}
	return deleted, nil
}

// rewritten selects the entries of ForgetRewritten.
type rewritten []Pair

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (r rewritten) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	origSrc, origDst := address(flow.Forward.SrcIP), address(flow.Forward.DstIP)
	replSrc, replDst := address(flow.Reverse.SrcIP), address(flow.Reverse.DstIP)
	for _, p := range r {
		// From the local side, with the source rewritten.
		if p.Local.Contains(origSrc) && p.Remote.Contains(replSrc) && !p.Local.Contains(replDst) {
			return true
		}
		// From the remote side, with the destination rewritten (a port-forward).
		if p.Remote.Contains(origSrc) && p.Local.Contains(replSrc) && !p.Local.Contains(origDst) {
			return true
		}
	}
	return false
}

// address is the empty address for none, which no prefix contains.
func address(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
