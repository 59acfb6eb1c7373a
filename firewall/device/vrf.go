package device

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// VRFs names the VRFs of a host, sorted. A packet that leaves by a VRF leaves by one of
// its ports next and passes the hooks there again (drivers/net/vrf.c, vrf_output_direct
// and vrf_process_v4_outbound).
func VRFs(host xfrm.Host) []string {
	var names []string
	for _, l := range host.Links {
		if l.Kind == "vrf" {
			names = append(names, l.Name)
		}
	}
	slices.Sort(names)
	return names
}

// VRF returns the index of the VRF that a link is, or is a port of; 0 is none.
func VRF(host xfrm.Host, l xfrm.Link) int32 {
	for range 8 {
		if l.Kind == "vrf" {
			return l.Index
		}
		above, ok := host.Link(l.Master)
		if !ok {
			break
		}
		l = above
	}
	return 0
}

// ClosedVRFs returns the names of the devices of each VRF that no packet of one family
// leaves for another: it has a default route of its own, because a lookup that finds
// nothing goes on in the main table, and no routing table leads into it and elsewhere.
// With routing rules that look at marks no VRF is closed.
func ClosedVRFs(host xfrm.Host, family xfrm.Family) map[int32][]string {
	if len(host.Rules) > 0 || len(VRFs(host)) == 0 {
		return nil
	}
	tables := make(map[uint32]int32)
	mixed, complete := make(map[int32]bool), make(map[int32]bool)
	for _, r := range host.Routes {
		l, ok := host.Link(r.Link)
		if !ok || l.Name == "lo" {
			continue
		}
		vrf := VRF(host, l)
		if before, ok := tables[r.Table]; ok && before != vrf {
			mixed[before], mixed[vrf] = true, true
		}
		tables[r.Table] = vrf
		if r.Dst == everything(family) {
			complete[vrf] = true
		}
	}
	closed := make(map[int32][]string)
	for _, l := range host.Links {
		if vrf := VRF(host, l); vrf != 0 && complete[vrf] && !mixed[vrf] {
			closed[vrf] = append(closed[vrf], l.Name)
		}
	}
	return closed
}

func everything(family xfrm.Family) netip.Prefix {
	if family == xfrm.IPv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}
