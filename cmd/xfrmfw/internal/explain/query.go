package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Query is a packet in words. Missing parts are taken from the host: its
// addresses tell whether a packet is for the host itself, its routes by which
// interface it comes and goes.
type Query struct {
	Src, Dst netip.Addr
	// In and Out are interfaces; both are given for a forwarded packet.
	In, Out string
	Proto   xfrm.Proto
	// SPort and DPort are 0 for protocols without ports. An SPort of 0 stands
	// for a client's.
	SPort, DPort uint16
	// ICMPType and ICMPCode count where Proto is ICMP or ICMPv6.
	ICMPType, ICMPCode uint8
	// Reqid is that of the state that the packet came out of, where HasReqid is set.
	Reqid    uint32
	HasReqid bool
	// Tag is true if the packet carries TAG. Mark has the other bits of its mark.
	Tag  bool
	Mark uint32
	// Ct is the packet's state in conntrack: new, established or related.
	Ct string
}

// The states of Query.Ct.
const (
	CtNew         = "new"
	CtEstablished = "established"
	CtRelated     = "related"
)

// clientPort stands for any port of a client.
const clientPort = 49152

// way is the path that a packet takes through the host.
type way string

const (
	toHost   way = "input"
	through  way = "forward"
	fromHost way = "output"
)

// World is the host on which the packet is.
type World struct {
	Snapshot xfrm.Snapshot
	Set      xfrm.Set
	Result   compile.Result
	Marks    firewall.Marks
	// Beside is true if a table of nftables stands beside the rules, which leave to it the
	// packets that the destination alone decides while a policy stands (case 8d).
	Beside bool
	// Live are the saves of all families, nil for a snapshot.
	Live map[xfrm.Family]live.Tables
	// Differences are plan.Make's.
	Differences []plan.Difference
	// Warnings are for the user.
	Warnings []string
}

// passage is a packet on its way, with the assumptions.
type passage struct {
	packet  trace.Packet
	way     way
	assumed []string
}

// place finds the way of the packet through this host. Its errors are mistakes in the
// query.
func (w World) place(q Query) (passage, error) {
	host := w.Snapshot.Host
	if q.Src.Is4() != q.Dst.Is4() {
		return passage{}, fmt.Errorf("--src %s and --dst %s are of two families", q.Src, q.Dst)
	}
	if q.Src.Is4In6() || q.Dst.Is4In6() || q.Src.Zone() != "" || q.Dst.Zone() != "" {
		return passage{}, errors.New("--src and --dst: want plain addresses, without a zone and not IPv4-mapped")
	}
	if !q.Src.Is4() && host.NoIPv6 {
		return passage{}, errors.New("this kernel runs without IPv6")
	}
	for _, at := range [...]struct{ option, name string }{{"--in", q.In}, {"--out", q.Out}} {
		if _, ok := host.LinkNamed(at.name); at.name != "" && !ok {
			return passage{}, fmt.Errorf("%s %s: there is no such interface; there are %s", at.option, at.name, interfaces(host))
		}
	}
	p := passage{packet: trace.Packet{
		Src: q.Src, Dst: q.Dst, In: q.In, Out: q.Out, Proto: q.Proto, SPort: q.SPort, DPort: q.DPort,
		ICMPType: q.ICMPType, ICMPCode: q.ICMPCode, Mark: q.Mark,
		SrcLocal: local(host, q.Src), DstLocal: local(host, q.Dst),
	}}
	if q.Proto.HasPorts() && q.SPort == 0 {
		p.packet.SPort = clientPort
		p.assume("source port %d", clientPort)
	}
	if q.Tag {
		p.packet.Mark |= w.Marks.Tag
	}
	if err := w.direct(&p, q); err != nil {
		return passage{}, err
	}
	if q.HasReqid {
		p.packet.SecPath = w.cameOutOf(&p, q.Reqid)
	}
	if p.way != fromHost {
		back, ok := host.Route(q.Src)
		link, _ := host.Link(back.Link)
		p.packet.FailsRPFilter = !ok || link.Name != p.packet.In || p.packet.SrcLocal
	}
	p.track(q.Ct)
	return p, nil
}

func (p *passage) assume(format string, args ...any) {
	p.assumed = append(p.assumed, fmt.Sprintf(format, args...))
}

// direct finds the way and the interfaces.
func (w World) direct(p *passage, q Query) error {
	host := w.Snapshot.Host
	pk := &p.packet
	if pk.In == "" && pk.SrcLocal && !q.HasReqid {
		p.way = fromHost
		if q.Tag {
			return errors.New("--tag is for packets that come in: name the interface with --in")
		}
		switch {
		case pk.Out != "":
		case pk.DstLocal:
			pk.Out = "lo"
		default:
			return w.routeOut(p)
		}
		return nil
	}
	if pk.In == "" {
		if err := w.routeIn(p, q); err != nil {
			return err
		}
	}
	if pk.DstLocal || toGroup(host, pk.Dst) {
		if pk.Out != "" {
			return fmt.Errorf("--dst %s is for this host itself, so the packet does not leave by %s: leave out --out", pk.Dst, pk.Out)
		}
		p.way = toHost
		return nil
	}
	p.way = through
	if pk.Out == "" {
		return w.routeOut(p)
	}
	return nil
}

func (w World) routeOut(p *passage) error {
	r, ok := w.Snapshot.Host.Route(p.packet.Dst)
	l, known := w.Snapshot.Host.Link(r.Link)
	if !ok || !known {
		return fmt.Errorf("no route leads to %s: name the interface with --out", p.packet.Dst)
	}
	p.packet.Out = l.Name
	p.assume("out by %s, by the routes", l.Name)
	return nil
}

// routeIn takes the interface that leads back: to the peer for a packet out of
// a state, else to the source.
func (w World) routeIn(p *passage, q Query) error {
	host, back := w.Snapshot.Host, p.packet.Src
	if i, ok := w.tunnelOf(q.Reqid, p.packet); ok && q.HasReqid {
		t := w.Set.Tunnels[i]
		for _, l := range host.Links {
			if l.Kind == "xfrm" && l.IfID == t.IfID && t.IfID != 0 {
				p.packet.In = l.Name
				p.assume("in by %s, the tunnel's interface", l.Name)
				return nil
			}
		}
		if t.Remote.IsValid() && !t.Remote.IsUnspecified() {
			back = t.Remote
		}
	}
	r, ok := host.Route(back)
	l, known := host.Link(r.Link)
	if !ok || !known {
		return fmt.Errorf("no route leads back to %s: name the interface with --in", back)
	}
	p.packet.In = l.Name
	p.assume("in by %s, by the route to %s", l.Name, back)
	return nil
}

// tunnelOf finds the tunnel with a reqid: the one with selectors around the
// packet, else any.
func (w World) tunnelOf(reqid uint32, pk trace.Packet) (int, bool) {
	at := -1
	for i, t := range w.Set.Tunnels {
		if t.Reqid != reqid {
			continue
		}
		if slices.ContainsFunc(t.Pairs, func(p xfrm.Pair) bool { return p.Remote.Contains(pk.Src) && p.Local.Contains(pk.Dst) }) {
			return i, true
		}
		if at < 0 {
			at = i
		}
	}
	return at, at >= 0
}

// cameOutOf returns the states of a reqid as the kernel would note them on the packet.
func (w World) cameOutOf(p *passage, reqid uint32) []xfrm.Transform {
	i, ok := w.tunnelOf(reqid, p.packet)
	if !ok {
		p.assume("reqid %d is no tunnel's: taken for ESP in tunnel mode", reqid)
		return []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: reqid}}
	}
	t := w.Set.Tunnels[i]
	for _, sa := range t.SAs {
		if sa.Inbound {
			return t.Transforms(sa)
		}
	}
	p.assume("no inbound state has reqid %d now: taken as its policies ask for it", reqid)
	return t.Transforms(xfrm.SA{State: xfrm.State{Proto: t.Proto, Mode: t.Mode, Reqid: t.Reqid, Src: t.Remote, Dst: t.Local}})
}

// track fills in the state of conntrack.
func (p *passage) track(state string) {
	pk := &p.packet
	ct := &pk.Ct
	ct.Dir, ct.OrigSrc, ct.OrigDst, ct.ReplSrc, ct.ReplDst = rules.CtOriginal, pk.Src, pk.Dst, pk.Dst, pk.Src
	if state != CtRelated { // an error's flow is of a protocol of its own, which is not known
		ct.Proto, ct.OrigSPort, ct.OrigDPort = pk.Proto, pk.SPort, pk.DPort
	}
	switch state {
	case CtEstablished:
		ct.State = rules.CtEstablished
		ct.OrigSPort, ct.OrigDPort = pk.DPort, pk.SPort
		ct.Dir, ct.OrigSrc, ct.OrigDst, ct.ReplSrc, ct.ReplDst = rules.CtReply, pk.Dst, pk.Src, pk.Src, pk.Dst
		p.assume("a reply in its flow, without NAT")
	case CtRelated:
		ct.State = rules.CtRelated
		ct.OrigSrc, ct.OrigDst, ct.ReplSrc, ct.ReplDst = pk.Dst, pk.Src, pk.Src, pk.Dst
		p.assume("about a flow from %s to %s, without NAT", pk.Dst, pk.Src)
	}
}

func local(host xfrm.Host, a netip.Addr) bool { return a.IsLoopback() || host.Owns(a) }

// toGroup reports whether an address is delivered here though it is not the
// host's alone: multicast and broadcast.
func toGroup(host xfrm.Host, a netip.Addr) bool {
	if a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return true
	}
	for _, own := range host.Addresses {
		if own.Prefix.Addr().Is4() && a.Is4() && own.Prefix.Bits() < 31 && own.Prefix.Contains(a) && broadcast(own.Prefix) == a {
			return true
		}
	}
	return false
}

func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

func interfaces(host xfrm.Host) string {
	var names []string
	for _, l := range host.Links {
		names = append(names, l.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	if len(names) > 20 {
		return strings.Join(names[:20], ", ") + " and more"
	}
	return strings.Join(names, ", ")
}
