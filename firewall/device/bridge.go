package device

import (
	"bytes"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Bridges names the bridges of a host whose link-layer address is known, sorted. With
// br_netfilter a frame that a bridge passes on between its ports passes the hooks of IP,
// and shows the bridge as the interface that it came in by (br_nf_pre_routing).
func Bridges(host xfrm.Host) []string {
	var names []string
	for _, l := range host.Links {
		if l.Kind == "bridge" && l.MAC != (xfrm.MAC{}) {
			names = append(names, l.Name)
		}
	}
	slices.Sort(names)
	return names
}

// MACs are the link-layer addresses of a host's interfaces, sorted. A frame to another one
// is not for this host: the kernel routes none (ip_rcv_core, PACKET_OTHERHOST).
func MACs(host xfrm.Host) []xfrm.MAC {
	var all []xfrm.MAC
	for _, l := range host.Links {
		if l.MAC != (xfrm.MAC{}) {
			all = append(all, l.MAC)
		}
	}
	slices.SortFunc(all, func(x, y xfrm.MAC) int { return bytes.Compare(x[:], y[:]) })
	return slices.Compact(all)
}
