package device

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Index finds the devices of pairs and the routes into devices, without a look at all
// devices and routes of the host for each of them.
type Index struct {
	host xfrm.Host
	// interfaces are the places of the xfrm interfaces by if_id, in and out those of the
	// VTIs by their keys, vtis those of all VTIs, vlans those of VLANs by the device below,
	// and names those of all devices.
	interfaces, in, out map[uint32][]int
	vtis                []int
	vlans               map[int32][]int
	names               map[string]int
	// routes are the places of the routes by device, internet those of routes to the internet.
	routes   map[int32][]int
	internet []int
	// ways is the index of the routes by destination, made when it is first needed.
	ways *prefix.Index
}

// NewIndex makes the index of a host's devices.
func NewIndex(host xfrm.Host) *Index {
	x := &Index{
		host: host, interfaces: make(map[uint32][]int), in: make(map[uint32][]int), out: make(map[uint32][]int),
		vlans: make(map[int32][]int), names: make(map[string]int, len(host.Links)), routes: make(map[int32][]int),
	}
	for i := range host.Links {
		l := &host.Links[i]
		x.names[l.Name] = i
		switch {
		case l.Kind == "xfrm" && l.IfID != 0:
			x.interfaces[l.IfID] = append(x.interfaces[l.IfID], i)
		case IsVTI(*l):
			x.in[l.IKey], x.out[l.OKey] = append(x.in[l.IKey], i), append(x.out[l.OKey], i)
			x.vtis = append(x.vtis, i)
		case l.Kind == "vlan":
			x.vlans[l.Parent] = append(x.vlans[l.Parent], i)
		}
	}
	for i := range host.Routes {
		x.routes[host.Routes[i].Link] = append(x.routes[host.Routes[i].Link], i)
	}
	return x
}

// Link returns the device of a name.
func (x *Index) Link(name string) (xfrm.Link, bool) {
	i, ok := x.names[name]
	if !ok {
		return xfrm.Link{}, false
	}
	return x.host.Links[i], true
}

// HasKey reports whether a VTI has a key, of either direction.
func (x *Index) HasKey(key uint32) bool { return len(x.in[key])+len(x.out[key]) > 0 }

// LinksOf returns the devices that a pair's policies belong to: the xfrm
// interfaces of its if_id, and the VTIs of its mark. The kernel looks inbound policies
// of a VTI up by its input key, outbound ones by its output key
// (net/ipv4/ip_vti.c, vti_rcv_cb and vti_xmit).
func (x *Index) LinksOf(p xfrm.Pair) []xfrm.Link {
	places := slices.Clone(x.interfaces[p.IfID])
	switch p.Mark.Mask {
	case 0:
	case 1<<32 - 1:
		if inbound(p) {
			places = append(places, x.in[p.Mark.Value]...)
		}
		if p.Has(xfrm.Out) {
			places = append(places, x.out[p.Mark.Value]...)
		}
	default:
		for _, i := range x.vtis {
			if hasKey(p, x.host.Links[i]) {
				places = append(places, i)
			}
		}
	}
	slices.Sort(places)
	return x.links(slices.Compact(places))
}

func (x *Index) links(places []int) []xfrm.Link {
	var links []xfrm.Link
	for _, i := range places {
		links = append(links, x.host.Links[i])
	}
	return links
}

// RoutedInto returns the prefixes that routes of any table lead into some devices, for
// one family. A default route is one of them.
func (x *Index) RoutedInto(links []xfrm.Link, family xfrm.Family) []netip.Prefix {
	var places []int
	for i := range links {
		places = append(places, x.routes[links[i].Index]...)
	}
	slices.Sort(places)
	var prefixes []netip.Prefix
	seen := make(map[netip.Prefix]bool, len(places))
	for _, i := range places {
		dst := x.host.Routes[i].Dst.Masked()
		if xfrm.FamilyOf(dst.Addr()) == family && !seen[dst] {
			seen[dst] = true
			prefixes = append(prefixes, dst)
		}
	}
	return prefixes
}

// OwnLinks returns an overlay's device and the VLANs that carry its packets alone. A
// bridge or VRF above it has other ports.
func (x *Index) OwnLinks(o *Overlay) []xfrm.Link {
	var all []int
	if i, ok := x.names[o.Devices[0]]; ok {
		all = append(all, i)
	}
	for at := 0; at < len(all); at++ {
		for _, vlan := range x.vlans[x.host.Links[all[at]].Index] {
			if !slices.Contains(all, vlan) {
				all = append(all, vlan)
			}
		}
	}
	return x.links(all)
}
