package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// readHost adds the host's facts to the snapshot, sorted.
func (r *Reader) readHost(ctx context.Context, s *xfrm.Snapshot) error {
	h := &s.Host
	r.readOffloads(h)
	h.Resolvers = r.resolvers(h.Resolvers[:0])
	err := list(ctx, s, "links", func() error {
		links, err := netlink.LinkList()
		h.Links = h.Links[:0]
		for _, l := range links {
			if l := link(l); l.Validate() == nil {
				h.Links = append(h.Links, l)
			} else {
				s.Skip(fmt.Sprintf("link %d", l.Index), l.Validate().Error())
			}
		}
		if err != nil {
			return err
		}
		if err := readL2TP(h); err != nil {
			s.Skip("L2TP sessions", err.Error())
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = list(ctx, s, "addresses", func() error {
		addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		h.Addresses = h.Addresses[:0]
		for _, a := range addresses {
			if p := prefix(a.IPNet); p.IsValid() && a.LinkIndex > 0 {
				h.Addresses = append(h.Addresses, xfrm.Address{Link: int32(a.LinkIndex), Prefix: p})
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	err = list(ctx, s, "routing rules", func() error {
		rules, err := netlink.RuleList(netlink.FAMILY_ALL)
		h.Rules = h.Rules[:0]
		for _, r := range rules {
			if m := ruleMark(r); m.Mask != 0 {
				h.Rules = append(h.Rules, xfrm.RoutingRule{Priority: uint32(r.Priority), Mark: m})
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	err = list(ctx, s, "routes", func() error {
		h.Routes = h.Routes[:0]
		for _, family := range [...]int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			if err := addRoutes(h, family); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.Sort()
	return nil
}

// ruleMark is a routing rule's match of the mark. Without a mask in the
// message all bits count, unless no mark is asked for at all.
func ruleMark(r netlink.Rule) xfrm.Mark {
	switch {
	case r.Mask != nil:
		return xfrm.Mark{Value: r.Mark, Mask: *r.Mask}
	case r.Mark != 0:
		return xfrm.Mark{Value: r.Mark, Mask: ^uint32(0)}
	}
	return xfrm.Mark{}
}

// list runs a listing again while the kernel says that it changed meanwhile. On
// a host where it always does the last one stands, with a note in Skipped.
func list(ctx context.Context, s *xfrm.Snapshot, what string, read func() error) error {
	skipped := len(s.Skipped)
	for range attempts {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.Skipped = s.Skipped[:skipped]
		err := read()
		if err == nil {
			return nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("list %s: %w", what, err)
		}
	}
	s.Skip(what, "the list kept changing while it was read and may be incomplete")
	return nil
}

// link converts a link.
func link(l netlink.Link) xfrm.Link {
	a := l.Attrs()
	x := xfrm.Link{
		Index:  int32(a.Index),
		Name:   a.Name,
		Kind:   kind(l),
		Master: int32(a.MasterIndex),
		Up:     a.Flags&net.FlagUp != 0,
		MTU:    a.MTU,
	}
	if len(a.HardwareAddr) == len(x.MAC) {
		x.MAC = xfrm.MAC(a.HardwareAddr)
	}
	// An index in another network namespace means nothing here. IFLA_LINK of a veth names
	// its peer, not a link below.
	if a.NetNsID < 0 && x.Kind != "veth" {
		x.Parent = int32(a.ParentIndex)
	}
	switch l := l.(type) {
	case *netlink.Xfrmi:
		x.IfID = l.Ifid
	case *netlink.Vti:
		x.Local, x.Remote, x.IKey, x.OKey = outer(l.Local), outer(l.Remote), l.IKey, l.OKey
	case *netlink.Gretun:
		x.Local, x.Remote, x.IKey, x.OKey = outer(l.Local), outer(l.Remote), l.IKey, l.OKey
	case *netlink.Gretap:
		// netlink v1.3.1 takes each key for the other one (parseGretapData).
		x.Local, x.Remote, x.IKey, x.OKey = outer(l.Local), outer(l.Remote), l.OKey, l.IKey
	case *netlink.Iptun:
		x.Local, x.Remote = outer(l.Local), outer(l.Remote)
	case *netlink.Ip6tnl:
		x.Local, x.Remote = outer(l.Local), outer(l.Remote)
	case *netlink.Sittun:
		x.Local, x.Remote = outer(l.Local), outer(l.Remote)
	case *netlink.Vxlan:
		x.Local, x.Remote, x.Port = outer(l.SrcAddr), outer(l.Group), uint16(l.Port)
		if x.Parent == 0 && a.NetNsID < 0 {
			x.Parent = int32(l.VtepDevIndex)
		}
	case *netlink.Geneve:
		x.Remote, x.Port = outer(l.Remote), l.Dport
	case *netlink.BareUDP:
		x.Port = l.Port
	}
	return x
}

// kind is the driver's name as rtnetlink has it. The library derives or changes
// it for some types.
func kind(l netlink.Link) string {
	switch l := l.(type) {
	case *netlink.Device:
		return ""
	case *netlink.Tuntap:
		return "tun"
	default:
		return l.Type()
	}
}

// outer is a tunnel device's address, invalid for none or "any".
func outer(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// prefix keeps an IPv4-mapped IPv6 address as it is: the length of the slice tells the
// family.
func prefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	a, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}
	}
	ones, size := n.Mask.Size()
	if size != a.BitLen() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, ones)
}

// addRoutes appends the unicast routes of one family from all tables, each next
// hop of a multipath route as a route of its own.
func addRoutes(h *xfrm.Host, family int) error {
	all := &netlink.Route{Table: unix.RT_TABLE_UNSPEC, Type: unix.RTN_UNICAST}
	return netlink.RouteListFilteredIter(family, all, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE, func(r netlink.Route) bool {
		dst := routeDst(r.Dst, family)
		if !dst.IsValid() {
			return true
		}
		add := func(link int, gw net.IP, via netlink.Destination) {
			next := gateway(gw, via)
			h.Routes = append(h.Routes, xfrm.Route{
				Dst:       dst,
				Link:      int32(link),
				Via:       next,
				Table:     uint32(r.Table),
				Connected: !next.IsValid(),
			})
		}
		if len(r.MultiPath) == 0 {
			add(r.LinkIndex, r.Gw, r.Via)
		}
		for _, hop := range r.MultiPath {
			add(hop.LinkIndex, hop.Gw, hop.Via)
		}
		return true
	})
}

// routeDst is a route's destination. The library gives 0.0.0.0/0 as a mapped
// IPv6 address with an IPv4 mask.
func routeDst(n *net.IPNet, family int) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	if ip := n.IP.To4(); ip != nil && family == netlink.FAMILY_V4 {
		n = &net.IPNet{IP: ip, Mask: n.Mask}
	}
	return prefix(n).Masked()
}

// gateway is a next hop, which for an IPv4 route may be an IPv6 address.
func gateway(gw net.IP, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok && v != nil {
		gw = v.Addr
	}
	return outer(gw)
}
