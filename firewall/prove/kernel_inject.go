package prove

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// misrouted are packets out to the remote end of tunnels, in by an interface that does not
// lead to their source: a stranger's, which this host would encrypt.
func (k *kernel) misrouted(at side) space.Set {
	list := k.first(at, k.pairs(), func(e guarded) space.Set { return k.lies(e.Pair, at) })
	return k.And(list, k.Bit(k.Misrouted))
}

// nowhere are such packets in by an uplink, with a source of a local selector to which the
// default route alone leads. A part of the selector lies behind another interface, because
// all of it may lie behind the uplink otherwise.
func (k *kernel) nowhere(at side) space.Set {
	inside := k.inside()
	pairs := slices.DeleteFunc(k.pairs(), func(e guarded) bool { return e.Local.Bits() < 8 || !inside.Within(e.Local) })
	if len(pairs) == 0 {
		return space.None
	}
	list := k.first(at, pairs, func(e guarded) space.Set { return k.lies(e.Pair, at) })
	return k.And(list, k.Minus(k.byAny(k.In, k.uplinks()), k.behind()))
}

// uplinks are the configured WAN interfaces, or those of routes to the internet.
func (k *kernel) uplinks() []string {
	names := device.WithMasterNames(k.in.Config.WAN, k.in.Host)
	for _, r := range k.in.Host.Routes {
		if l, ok := k.leads(r); ok && len(k.in.Config.WAN) == 0 && isInternet(r.Dst) {
			names = append(names, device.WithMasters(k.in.Host, l)...)
		}
	}
	return names
}

// leads returns the interface of a route, unless it is of a tunnel or of this host alone.
func (k *kernel) leads(r xfrm.Route) (xfrm.Link, bool) {
	l, ok := k.in.Host.Link(r.Link)
	return l, ok && l.Name != "lo" && !k.isTunnelDevice(l)
}

// behind are the packets with a source to which an own address, its network, a route that is
// none to the internet, or the configuration leads.
func (k *kernel) behind() space.Set {
	list := []space.Set{k.LiesInAny(k.Src, k.in.Config.Behind)}
	for _, a := range k.in.Host.Addresses {
		list = append(list, k.LiesIn(k.Src, prefix.Single(a.Prefix.Addr().WithZone(""))), k.LiesIn(k.Src, a.Prefix.Masked()))
	}
	for _, r := range k.in.Host.Routes {
		if _, ok := k.leads(r); ok && !isInternet(r.Dst) {
			list = append(list, k.LiesIn(k.Src, r.Dst))
		}
	}
	return k.Union(list...)
}

// inside are the networks behind interfaces that are no uplink, or behind this host as the
// configuration says.
func (k *kernel) inside() *prefix.Index {
	uplinks, list := k.uplinks(), slices.Clone(k.in.Config.Behind)
	for _, r := range k.in.Host.Routes {
		if l, ok := k.leads(r); ok && !isInternet(r.Dst) && !slices.Contains(uplinks, l.Name) {
			list = append(list, r.Dst.Masked())
		}
	}
	return prefix.NewIndex(len(list), func(i int) netip.Prefix { return list[i] })
}
