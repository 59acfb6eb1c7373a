package fake

import (
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Passages makes up packets near the facts: between selectors, beside them, with the
// SAs of one tunnel or of another.
type Passages struct {
	*rand.Rand
	in    firewall.Input
	facts *firewall.Facts
	// addrs has the addresses of each family in the facts, and some others.
	addrs map[xfrm.Family][]netip.Addr
	links []string
}

// NewPassages returns a maker of packets for the facts of an input.
func NewPassages(r *rand.Rand, in firewall.Input, f *firewall.Facts) *Passages {
	m := &Passages{Rand: r, in: in, facts: f, addrs: make(map[xfrm.Family][]netip.Addr)}
	note := func(a netip.Addr) {
		if a.IsValid() {
			m.addrs[familyOfAddr(a)] = append(m.addrs[familyOfAddr(a)], a)
		}
	}
	for i := range f.Guards {
		for _, p := range []netip.Prefix{f.Guards[i].Local, f.Guards[i].Remote} {
			note(p.Addr())
			note(p.Addr().Next())
			note(m.within(p))
		}
	}
	for i := range in.Set.Tunnels {
		note(in.Set.Tunnels[i].Local)
		note(in.Set.Tunnels[i].Remote)
	}
	for _, a := range in.Host.Addresses {
		note(a.Prefix.Addr())
		note(m.within(a.Prefix))
	}
	for _, s := range []string{"198.51.100.9", "8.8.8.8", "224.0.0.5", "169.254.1.1", "0.0.0.0", "255.255.255.255", "2001:db8:9::9", "fe80::1", "ff02::1", "::"} {
		note(netip.MustParseAddr(s))
	}
	for _, l := range in.Host.Links {
		if l.Name != "lo" {
			m.links = append(m.links, l.Name)
		}
	}
	return m
}

// within is a random address of a prefix.
func (m *Passages) within(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().AsSlice()
	for i := range a {
		host := 8*(i+1) - p.Bits()
		if host > 0 {
			a[i] |= byte(m.IntN(256)) & byte(1<<min(host, 8)-1)
		}
	}
	at, _ := netip.AddrFromSlice(a)
	return at
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func (m *Passages) chance(n int) bool { return m.IntN(n) == 0 }

func (m *Passages) addr(f xfrm.Family) netip.Addr { return pick(m.Rand, m.addrs[f]...) }

// Next makes up a packet.
func (m *Passages) Next() firewall.Passage {
	family := xfrm.Family(xfrm.IPv4)
	if m.chance(4) && !m.facts.NoIPv6 {
		family = xfrm.IPv6
	}
	p := firewall.Passage{Way: firewall.Way(m.IntN(3))}
	e := firewall.Ends{Src: m.addr(family), Dst: m.addr(family)}
	m.protocol(&p, &e, family)
	m.choosePair(&p, &e, family)
	p.Received, p.AfterDNAT = e, e
	p.In, p.Out = pick(m.Rand, m.links...), pick(m.Rand, m.links...)
	if m.chance(2) {
		p.In, p.Out = pick(m.Rand, "eth0", "eth1"), pick(m.Rand, "eth0", "eth1")
	}
	p.FailsRPFilter, p.DstLocal = m.chance(3), m.chance(3)
	switch p.Way {
	case firewall.ToHost:
		p.Out, p.DstLocal = "", true
	case firewall.FromHost:
		p.In, p.SrcLocal, p.FailsRPFilter = "", true, false
	}
	m.device(&p, family)
	m.flow(&p, family)
	if m.chance(4) {
		p.Mark = pick(m.Rand, uint32(7), 9, 0x109)
	}
	if p.Way != firewall.FromHost {
		p.Tagged, p.Verified = m.chance(2), m.chance(4)
		if m.chance(2) && !m.unwrapped(&p) {
			p.Path = m.path(family, true)
		}
		if p.Flow.DNAT && !p.Flow.Reply {
			p.AfterDNAT.Dst, p.AfterDNAT.DPort = m.addr(family), p.Received.DPort
		}
	}
	if p.Way != firewall.ToHost && m.chance(2) {
		p.Ahead = m.path(family, false)
	}
	p.Sent, p.AheadSent = p.AfterDNAT, p.Ahead
	return p
}

// OutOf makes up a packet out of the SAs of a claim, between its selectors: every
// second one is an ICMP error about a flow of the claim.
func (m *Passages) OutOf(c firewall.Claim) firewall.Passage {
	family := xfrm.FamilyOf(c.Pair.Remote.Addr())
	e := firewall.Ends{Src: m.within(c.Pair.Remote), Dst: m.within(c.Pair.Local)}
	p := firewall.Passage{Way: pick(m.Rand, firewall.ToHost, firewall.Through), In: "eth0", Tagged: !m.chance(4)}
	if m.protocol(&p, &e, family); c.Pair.Proto != 0 {
		p.Proto, e.SPort, e.DPort = c.Pair.Proto, c.Pair.RemotePort.Port, c.Pair.LocalPort.Port
	}
	p.Path = pathOf(c)
	p.Received, p.AfterDNAT, p.Sent = e, e, e
	if p.DstLocal = p.Way == firewall.ToHost; !p.DstLocal {
		p.Out = "eth1"
	}
	f := &p.Flow
	f.OrigSrc, f.OrigDst, f.Proto = e.Src, e.Dst, p.Proto
	if m.chance(2) {
		m.makeError(&p, family)
	}
	f.ReplySrc, f.ReplyDst = f.OrigDst, f.OrigSrc
	return p
}

// Crossed makes up a packet out of the SAs of a claim, of any selectors.
func (m *Passages) Crossed(c firewall.Claim) firewall.Passage {
	p := m.Next()
	for p.Way == firewall.FromHost {
		p = m.Next()
	}
	p.Path = pathOf(c)
	return p
}

func pathOf(c firewall.Claim) []xfrm.Transform {
	return []xfrm.Transform{{Proto: c.In.Proto, Mode: xfrm.TunnelMode, Reqid: c.In.Reqid, Src: c.In.Src, Dst: c.In.Dst}}
}

// OutOfDevice makes up an ICMP error in by a device of an overlay, about a flow with
// one of its sources.
func (m *Passages) OutOfDevice(o firewall.Overlay) firewall.Passage {
	p := firewall.Passage{Way: firewall.ToHost, In: pick(m.Rand, o.Devices...), Tagged: true, Verified: true, DstLocal: true}
	source := pick(m.Rand, o.Sources...)
	family := xfrm.FamilyOf(source.Addr())
	p.Received.Dst = m.addr(family)
	p.Flow.OrigSrc, p.Flow.OrigDst = m.within(source), p.Received.Dst
	m.makeError(&p, family)
	p.Flow.ReplySrc, p.Flow.ReplyDst = p.Flow.OrigDst, p.Flow.OrigSrc
	return p
}

// makeError makes a packet an ICMP error of any router about its flow, which either
// end began.
func (m *Passages) makeError(p *firewall.Passage, family xfrm.Family) {
	p.ICMPType = 3 // in both families a kind of error
	router := netip.MustParseAddr("198.51.100.9")
	if p.Proto = xfrm.ICMP; family == xfrm.IPv6 {
		p.Proto, router = xfrm.ICMPv6, netip.MustParseAddr("2001:db8:9::9")
	}
	p.Received.Src = pick(m.Rand, m.addr(family), router)
	p.AfterDNAT, p.Sent = p.Received, p.Received
	f := &p.Flow
	if f.Related, f.Proto = true, xfrm.TCP; m.chance(2) {
		f.OrigSrc, f.OrigDst = f.OrigDst, f.OrigSrc
	}
}

// device lets one packet in six come out of an overlay device, or go into a tunnel's.
func (m *Passages) device(p *firewall.Passage, family xfrm.Family) {
	if len(m.facts.Overlays) > 0 && p.Way != firewall.FromHost && m.chance(6) {
		o := pick(m.Rand, m.facts.Overlays...)
		p.In = pick(m.Rand, o.Devices...)
		if len(o.Sources) > 0 && m.chance(2) {
			if from := pick(m.Rand, o.Sources...); familyOfAddr(from.Addr()) == family {
				p.Received.Src = m.within(from)
				p.AfterDNAT.Src = p.Received.Src
			}
		}
	}
	if len(m.facts.Devices) > 0 && p.Way != firewall.ToHost && m.chance(6) {
		p.Out = pick(m.Rand, m.facts.Devices...).Name
	}
}

// unwrapped reports whether a packet came in by an overlay device: most have no SA.
func (m *Passages) unwrapped(p *firewall.Passage) bool {
	return !m.chance(8) && slices.ContainsFunc(m.facts.Overlays, func(o firewall.Overlay) bool { return slices.Contains(o.Devices, p.In) })
}

func (m *Passages) protocol(p *firewall.Passage, e *firewall.Ends, family xfrm.Family) {
	p.Proto = pick(m.Rand, xfrm.TCP, xfrm.TCP, xfrm.UDP, xfrm.ICMP, xfrm.ICMP, xfrm.GRE, xfrm.ESP, xfrm.IPIP)
	switch p.Proto {
	case xfrm.TCP, xfrm.UDP:
		ports := []uint16{22, 44, 80, 500, 4500, 14500, 67, 68, 546, 547, 4789, 1024}
		e.SPort, e.DPort = pick(m.Rand, ports...), pick(m.Rand, ports...)
	case xfrm.ICMP:
		p.ICMPType = pick(m.Rand, uint8(0), 3, 8, 11, 12)
		if family == xfrm.IPv6 {
			p.Proto, p.ICMPType = xfrm.ICMPv6, pick(m.Rand, uint8(1), 2, 3, 4, 128, 135, 136)
		}
	case xfrm.IPIP:
		if family == xfrm.IPv6 {
			p.Proto = xfrm.IPv6in
		}
	}
}

// choosePair makes most packets lie in a pair's selectors.
func (m *Passages) choosePair(p *firewall.Passage, e *firewall.Ends, family xfrm.Family) {
	if len(m.facts.Guards) == 0 || m.chance(4) {
		return
	}
	g := pick(m.Rand, m.facts.Guards...)
	if familyOfAddr(g.Remote.Addr()) != family {
		return
	}
	local, remote := m.within(g.Local), m.within(g.Remote)
	e.Src, e.Dst = local, remote
	if p.Way == firewall.ToHost || p.Way == firewall.Through && m.chance(2) {
		e.Src, e.Dst = remote, local
	}
	if g.Proto == xfrm.TCP && m.chance(2) {
		p.Proto, e.DPort = g.Proto, g.LocalPort.Port
	}
}

// path is SAs of one tunnel, of two, or of none.
func (m *Passages) path(family xfrm.Family, inbound bool) []xfrm.Transform {
	var path []xfrm.Transform
	for range 1 + m.IntN(5)/4 {
		if len(m.in.Set.Tunnels) == 0 || m.chance(8) {
			path = append(path, xfrm.Transform{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 99999, Src: m.addr(xfrm.IPv4), Dst: m.addr(xfrm.IPv4)})
			continue
		}
		t := pick(m.Rand, m.in.Set.Tunnels...)
		sa := xfrm.Transform{Proto: t.Proto, Mode: t.Mode, Reqid: t.Reqid, Src: t.Remote, Dst: t.Local}
		if !inbound {
			sa.Src, sa.Dst = sa.Dst, sa.Src
		}
		path = append(path, sa)
	}
	return path
}

// flow makes up conntrack's knowledge: of the packet's own flow, or for an ICMP error
// of another.
func (m *Passages) flow(p *firewall.Passage, family xfrm.Family) {
	f := &p.Flow
	f.OrigSrc, f.OrigDst, f.Proto = p.Received.Src, p.Received.Dst, p.Proto
	f.OrigSPort, f.OrigDPort = p.Received.SPort, p.Received.DPort
	switch m.IntN(4) {
	case 0:
		f.Established = true
	case 1:
		if p.Proto != xfrm.ICMP && p.Proto != xfrm.ICMPv6 {
			break
		}
		f.Related = true
		f.Proto = pick(m.Rand, xfrm.TCP, xfrm.UDP, xfrm.ESP)
		f.OrigSPort, f.OrigDPort = pick(m.Rand, uint16(500), 22, 44, 1024), pick(m.Rand, uint16(4500), 22, 44, 80)
		f.OrigSrc, f.OrigDst = m.addr(family), m.addr(family)
		if m.chance(2) {
			f.OrigSrc = p.Received.Dst
		}
	}
	f.ReplySrc, f.ReplyDst = f.OrigDst, f.OrigSrc
	f.Reply = f.Established && m.chance(2)
	if f.Reply {
		f.OrigSrc, f.OrigDst, f.ReplySrc, f.ReplyDst = f.OrigDst, f.OrigSrc, f.ReplyDst, f.ReplySrc
		f.OrigSPort, f.OrigDPort = f.OrigDPort, f.OrigSPort
	}
	if m.chance(6) {
		f.SNAT, f.ReplyDst = true, m.addr(family)
	}
	if m.chance(6) {
		f.DNAT = true
		if f.Reply {
			f.OrigDst = m.addr(family)
		} else {
			f.ReplySrc = m.addr(family)
		}
	}
}

func familyOfAddr(a netip.Addr) xfrm.Family {
	if a.Is4() {
		return xfrm.IPv4
	}
	return xfrm.IPv6
}

// WithOneSA is a packet with at most one SA on each path.
func WithOneSA(p firewall.Passage) firewall.Passage {
	p.Path, p.Ahead = p.Path[:min(1, len(p.Path))], p.Ahead[:min(1, len(p.Ahead))]
	p.AheadSent = p.Ahead
	return p
}

// Links are the names of a host's interfaces.
func Links(host xfrm.Host) []string {
	names := make([]string, len(host.Links))
	for i, l := range host.Links {
		names[i] = l.Name
	}
	return names
}
