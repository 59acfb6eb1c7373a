package prove

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// host derives sets of packets from the addresses, routes and policies of a host, as
// xfrmfw explain does for one packet.
type host struct {
	*space.Space
	snapshot xfrm.Snapshot
	set      xfrm.Set
}

// own are the packets with an address of this host in a field.
func (h *host) own(f space.Classed) space.Set {
	sets := []space.Set{h.LiesIn(f, netip.MustParsePrefix("127.0.0.0/8")), h.LiesIn(f, netip.MustParsePrefix("::1/128"))}
	for _, a := range h.snapshot.Host.Addresses {
		sets = append(sets, h.LiesIn(f, prefix.Single(a.Prefix.Addr().WithZone(""))))
	}
	return h.Union(sets...)
}

// delivered are the packets that stay on this host by their destination.
func (h *host) delivered() space.Set {
	sets := []space.Set{
		h.own(h.Dst), h.LiesIn(h.Dst, netip.MustParsePrefix("224.0.0.0/4")), h.LiesIn(h.Dst, netip.MustParsePrefix("255.255.255.255/32")),
		h.LiesIn(h.Dst, netip.MustParsePrefix("ff00::/8")),
	}
	return h.Union(sets...)
}

// routed are the packets with an address in one field that is routed by the interface in
// another field.
func (h *host) routed(f space.Classed, device space.Field) space.Set {
	type hop struct {
		table int
		route xfrm.Route
	}
	var hops []hop
	for _, r := range h.snapshot.Host.Routes {
		if at := slices.Index([]uint32{220, 254, 253}, cmp.Or(r.Table, 254)); at >= 0 && xfrm.FamilyOf(r.Dst.Addr()) == h.Family {
			hops = append(hops, hop{at, r})
		}
	}
	slices.SortStableFunc(hops, func(a, b hop) int {
		return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(b.route.Dst.Bits(), a.route.Dst.Bits()))
	})
	result, decided := space.None, space.None
	for _, at := range hops {
		to := h.Minus(h.LiesIn(f, at.route.Dst), decided)
		if l, ok := h.snapshot.Host.Link(at.route.Link); ok {
			result = h.Or(result, h.And(to, h.Device(device, l.Name)))
		}
		decided = h.Or(decided, to)
	}
	return result
}

// encrypted divides packets that leave by the policy that they find: with, are they with
// the SA that they will go through, and none where they find none; held are those that
// the kernel holds or drops by itself.
func (h *host) encrypted(way firewall.Way, from space.Set) (with, held space.Set) {
	none := h.Bit(h.Ahead.Present).Not()
	serves := space.None
	if way == firewall.FromHost {
		udp := h.Or(h.Number(h.SPort, firewall.IKE), h.Number(h.SPort, firewall.NATT))
		serves = h.Union(h.Number(h.Proto, uint64(xfrm.ESP)), h.Number(h.Proto, uint64(xfrm.AH)), h.And(h.Number(h.Proto, uint64(xfrm.UDP)), udp))
	}
	rest := h.Minus(from, serves)
	with, held = h.And(h.And(from, serves), none), space.None
	policies := slices.Clone(h.snapshot.Policies)
	slices.SortStableFunc(policies, func(a, b xfrm.Policy) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Index, b.Index))
	})
	for i := range policies {
		p := &policies[i]
		if p.Dir != xfrm.Out || p.Type != xfrm.Main || p.IfID != 0 || p.Mark.Value != 0 || p.Selector.Family != h.Family && p.Selector.Family != 0 {
			continue
		}
		finds := h.And(rest, h.selected(p.Selector))
		if finds == space.None {
			continue
		}
		rest = h.Minus(rest, finds)
		switch at, ok := h.set.Owner(*p); {
		case p.Action == xfrm.Block:
			held = h.Or(held, finds)
		case !ok:
			with = h.Or(with, h.And(finds, none))
		default:
			sa, up := h.through(&h.set.Tunnels[at])
			if up || h.set.Tunnels[at].Optional {
				with = h.Or(with, h.And(h.outward(finds, &h.set.Tunnels[at]), sa))
			} else {
				held = h.Or(held, finds)
			}
		}
	}
	with = h.Or(with, h.And(rest, none))
	lost := h.And(h.And(with, none), h.intoDevicesDown(policies))
	return h.Minus(with, lost), h.Or(held, lost)
}

// intoDevicesDown are the packets into an xfrm interface or a VTI that find no SA there: the
// kernel drops them. Policies are in their order.
func (h *host) intoDevicesDown(policies []xfrm.Policy) space.Set {
	var lost []space.Set
	for _, l := range h.snapshot.Host.Links {
		if l.Kind != "xfrm" && !device.IsVTI(l) {
			continue
		}
		rest := h.Device(h.Out, l.Name)
		for i := range policies {
			p := &policies[i]
			of := p.IfID == l.IfID && p.Mark.Mask == 0
			if device.IsVTI(l) {
				of = p.IfID == 0 && l.OKey&p.Mark.Mask == p.Mark.Value
			}
			if p.Dir != xfrm.Out || p.Type != xfrm.Main || !of || p.Selector.Family != h.Family && p.Selector.Family != 0 {
				continue
			}
			s := p.Selector
			s.Ifindex = 0
			finds := h.And(rest, h.selected(s))
			rest = h.Minus(rest, finds)
			if at, ok := h.set.Owner(*p); ok {
				if _, up := h.through(&h.set.Tunnels[at]); !up && !h.set.Tunnels[at].Optional {
					lost = append(lost, finds)
				}
			} else if p.Action == xfrm.Block {
				lost = append(lost, finds)
			}
		}
		lost = append(lost, rest)
	}
	return h.Union(lost...)
}

// selected are the packets of a selector.
func (h *host) selected(s xfrm.Selector) space.Set {
	c := h.Condition()
	if s.Src.IsValid() {
		c.LiesIn(h.Src, s.Src)
	}
	if s.Dst.IsValid() {
		c.LiesIn(h.Dst, s.Dst)
	}
	if s.Proto != 0 {
		c.Number(h.Proto, uint64(s.Proto))
	}
	if s.Proto.IsICMP() {
		c.Masked(h.ICMPType, s.SPort)
		c.Masked(h.ICMPCode, s.DPort)
	} else {
		c.Masked(h.SPort, s.SPort)
		c.Masked(h.DPort, s.DPort)
	}
	set := c.Set()
	if s.Ifindex != 0 {
		l, _ := h.snapshot.Host.Link(s.Ifindex)
		set = h.And(set, h.Device(h.Out, l.Name))
	}
	return set
}

// through are the packets with a tunnel's outbound SA ahead, and whether it has one. A
// tunnel without leaves them as they are.
func (h *host) through(t *xfrm.Tunnel) (space.Set, bool) {
	for _, sa := range t.SAs {
		if !sa.Inbound {
			return h.transform(&h.Ahead, xfrm.Transform{Proto: sa.Proto, Mode: sa.Mode, Reqid: sa.Reqid, Src: sa.Src, Dst: sa.Dst}), true
		}
	}
	return h.Bit(h.Ahead.Present).Not(), false
}

// outward are packets into a tunnel, by the interface that filter and mangle see.
func (h *host) outward(packets space.Set, t *xfrm.Tunnel) space.Set {
	for _, sa := range t.SAs {
		if sa.Inbound {
			continue
		}
		if l, ok := h.snapshot.Host.OuterLink(t.Transforms(sa)); ok {
			packets = h.Without(packets, func(bit int) bool { return slices.Contains(h.Out, bit) })
			return h.And(packets, h.Device(h.Out, l.Name))
		}
		break
	}
	return packets
}

// cameOutOf are the packets that came out of the SA of a reqid. They have no other.
func (h *host) cameOutOf(reqid uint32) space.Set {
	var sets []space.Set
	for i := range h.set.Tunnels {
		t := &h.set.Tunnels[i]
		if t.Reqid != reqid {
			continue
		}
		sa := xfrm.Transform{Proto: t.Proto, Mode: t.Mode, Reqid: reqid, Src: t.Remote, Dst: t.Local}
		for _, s := range t.SAs {
			if s.Inbound {
				sa = xfrm.Transform{Proto: s.Proto, Mode: s.Mode, Reqid: reqid, Src: s.Src, Dst: s.Dst}
				break
			}
		}
		sets = append(sets, h.transform(&h.Path, sa))
	}
	if len(sets) == 0 {
		return h.transform(&h.Path, xfrm.Transform{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: reqid})
	}
	return h.Union(sets...)
}

// transform are the packets with an SA.
func (h *host) transform(on *space.SA, t xfrm.Transform) space.Set {
	c := h.Condition()
	c.Bit(on.Present)
	c.Reqid(on, t.Reqid)
	c.Number(on.Proto, uint64(t.Proto))
	set := h.And(c.Set(), space.Negated(h.Bit(on.Tunnel), t.Mode != xfrm.TunnelMode))
	for _, end := range []struct {
		field space.Classed
		addr  netip.Addr
	}{{on.Source, t.Src}, {on.Destination, t.Dst}} {
		if end.addr.IsValid() {
			set = h.And(set, h.Outer(end.field, end.addr))
		}
	}
	return set
}

// Values are those that questions about packets of a host ask for.
func Values(in firewall.Input) space.Values {
	v := hostValues(in.Host, in.Set)
	for _, g := range in.Guards {
		v.Prefix(g.Local, g.Remote)
		v.Address(g.Peer)
	}
	v.Prefix(in.Config.Behind...)
	for _, tc := range in.Config.Tunnels {
		v.Prefix(tc.Remote...)
	}
	return v
}

func hostValues(host xfrm.Host, set xfrm.Set) space.Values {
	var v space.Values
	for _, l := range host.Links {
		v.Names = append(v.Names, l.Name)
	}
	for _, a := range host.Addresses {
		v.Address(a.Prefix.Addr())
		v.Prefix(a.Prefix.Masked())
	}
	for _, r := range host.Routes {
		v.Prefix(r.Dst)
	}
	for i := range set.Tunnels {
		t := &set.Tunnels[i]
		v.SA(t.Reqid, t.Local, t.Remote)
		v.Address(t.Remote)
		for _, p := range t.Pairs {
			v.Prefix(p.Local, p.Remote)
		}
		for _, sa := range t.SAs {
			v.SA(sa.Reqid, sa.Src, sa.Dst)
		}
	}
	for _, e := range set.Exceptions {
		v.Prefix(e.Pair.Local, e.Pair.Remote)
	}
	return v
}
