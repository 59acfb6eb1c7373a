package device

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// LinksOf returns the devices that a pair's policies belong to: the xfrm
// interfaces of its if_id, and the VTIs of its mark. The kernel looks inbound policies
// of a VTI up by its input key, outbound ones by its output key
// (net/ipv4/ip_vti.c, vti_rcv_cb and vti_xmit).
func LinksOf(p xfrm.Pair, host xfrm.Host) []xfrm.Link {
	if p.IfID == 0 && p.Mark.Mask == 0 {
		return nil
	}
	var links []xfrm.Link
	for i := range host.Links {
		if l := &host.Links[i]; l.Kind == "xfrm" && p.IfID != 0 && l.IfID == p.IfID || IsVTI(*l) && hasKey(p, *l) {
			links = append(links, *l)
		}
	}
	return links
}

func IsVTI(l xfrm.Link) bool { return l.Kind == "vti" || l.Kind == "vti6" }

func hasKey(p xfrm.Pair, l xfrm.Link) bool {
	if p.Mark.Mask == 0 {
		return false
	}
	in := p.Has(xfrm.In) || p.Has(xfrm.Fwd)
	return in && l.IKey&p.Mark.Mask == p.Mark.Value || p.Has(xfrm.Out) && l.OKey&p.Mark.Mask == p.Mark.Value
}

// RoutedInto returns the prefixes that routes of any table lead into some devices, for
// one family. A default route is one of them.
func RoutedInto(links []xfrm.Link, host xfrm.Host, family xfrm.Family) []netip.Prefix {
	var prefixes []netip.Prefix
	if len(links) == 0 {
		return nil
	}
	indexes := make([]int32, len(links))
	for i := range links {
		indexes[i] = links[i].Index
	}
	for i := range host.Routes {
		r := &host.Routes[i]
		if !slices.Contains(indexes, r.Link) || xfrm.FamilyOf(r.Dst.Addr()) != family {
			continue
		}
		if dst := r.Dst.Masked(); !slices.Contains(prefixes, dst) {
			prefixes = append(prefixes, dst)
		}
	}
	return prefixes
}
