package fake

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/mirror"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Fault is a packet on a gateway that was once judged wrongly, with the right verdict.
type Fault struct {
	Name    string
	Input   firewall.Input
	Passage firewall.Passage
	Want    firewall.Verdict
}

// Faults returns all of them, each in both families.
func Faults() []Fault {
	var all []Fault
	for _, kind := range [][]Fault{vtiFaults(), carrierFaults(), policyFaults(), lockdownFaults(), vrfFaults(), asideFaults(), routeFaults(), strangerFaults()} {
		all = append(all, kind...)
	}
	for _, f := range slices.Clone(all) {
		f.Name += ", in IPv6"
		f.Input, f.Passage = mirror.Of(f.Input), mirror.Of(f.Passage)
		all = append(all, f)
	}
	return all
}

// faultHost is a gateway with an uplink, eth0, and a LAN, eth1.
type faultHost struct {
	s      xfrm.Snapshot
	config firewall.Config
	guards []guard.Guard
	lines  []guard.Line
}

func newFaultHost() *faultHost {
	p := netip.MustParsePrefix
	g := &faultHost{config: firewall.Config{Marks: firewall.DefaultMarks()}}
	g.s.Schema = xfrm.SchemaVersion
	g.s.Host = xfrm.Host{
		Links:     []xfrm.Link{{Index: 1, Name: "lo"}, {Index: 2, Name: "eth0", Up: true}, {Index: 3, Name: "eth1", Up: true}},
		Addresses: []xfrm.Address{{Link: 2, Prefix: p("192.0.2.2/24")}, {Link: 3, Prefix: p("10.2.0.1/24")}},
		Routes: []xfrm.Route{
			{Dst: p("192.0.2.0/24"), Link: 2, Connected: true}, {Dst: p("10.2.0.0/24"), Link: 3, Connected: true},
			{Dst: p("0.0.0.0/0"), Link: 2, Via: netip.MustParseAddr("192.0.2.254")},
		},
	}
	return g
}

// newOneArmed is a gateway with the uplink alone.
func newOneArmed() *faultHost {
	g := newFaultHost()
	g.s.Host.Links, g.s.Host.Addresses = g.s.Host.Links[:2], g.s.Host.Addresses[:1]
	g.s.Host.Routes = append(g.s.Host.Routes[:1:1], g.s.Host.Routes[2])
	return g
}

// link adds a device and routes into it.
func (g *faultHost) link(l xfrm.Link, routes ...string) {
	l.Index, l.Up = int32(10+len(g.s.Host.Links)), true
	g.s.Host.Links = append(g.s.Host.Links, l)
	for _, r := range routes {
		g.s.Host.Routes = append(g.s.Host.Routes, xfrm.Route{Dst: netip.MustParsePrefix(r), Link: l.Index})
	}
}

// connection is the policies and states of one tunnel.
type connection struct {
	reqid                 uint32
	peer, local, remote   string
	mode                  xfrm.Mode
	proto                 xfrm.Proto
	localPort, remotePort uint16
	ifID                  uint32
	mark                  xfrm.Mark
	priority              uint32
	dirs                  []xfrm.Dir // nil is all
	down, optional, comp  bool       // comp is IPComp before ESP
}

func port(n uint16) xfrm.PortMatch {
	if n == 0 {
		return xfrm.PortMatch{}
	}
	return xfrm.PortMatch{Port: n, Mask: 0xffff}
}

func (g *faultHost) connect(c connection) {
	local, peer := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr(c.peer)
	l, r := netip.MustParsePrefix(c.local), netip.MustParsePrefix(c.remote)
	dirs := c.dirs
	if dirs == nil {
		dirs = []xfrm.Dir{xfrm.In, xfrm.Fwd, xfrm.Out}
	}
	for _, dir := range dirs {
		p := xfrm.Policy{
			Dir: dir, Priority: c.priority, IfID: c.ifID, Mark: c.mark, Index: uint32(8*(1+len(g.s.Policies))) + uint32(dir),
			Selector:  xfrm.Selector{Family: xfrm.IPv4, Src: r, Dst: l, Proto: c.proto, SPort: port(c.remotePort), DPort: port(c.localPort)},
			Templates: []xfrm.Template{{Family: xfrm.IPv4, Src: peer, Dst: local, Proto: xfrm.ESP, Mode: c.mode, Reqid: c.reqid, Optional: c.optional}},
		}
		if dir == xfrm.Out {
			p.Selector = xfrm.Selector{Family: xfrm.IPv4, Src: l, Dst: r, Proto: c.proto, SPort: port(c.localPort), DPort: port(c.remotePort)}
			p.Templates[0].Src, p.Templates[0].Dst = local, peer
		}
		if c.comp {
			p.Templates[0].Proto = xfrm.Comp
			p.Templates = append(p.Templates, xfrm.Template{Family: xfrm.IPv4, Proto: xfrm.ESP, Mode: xfrm.TransportMode, Reqid: c.reqid})
		}
		g.s.Policies = append(g.s.Policies, p)
	}
	if c.down {
		return
	}
	for i, ends := range [][2]netip.Addr{{peer, local}, {local, peer}} {
		g.s.States = append(g.s.States, xfrm.State{
			Family: xfrm.IPv4, Src: ends[0], Dst: ends[1], SPI: 0xc0000000 + 2*uint32(len(g.s.States)) + uint32(i), Proto: xfrm.ESP, Mode: c.mode,
			Reqid: c.reqid, IfID: c.ifID, Algs: xfrm.Algs{AEAD: "rfc4106(gcm(aes))", ICVBits: 128},
		})
	}
}

func (g *faultHost) input() firewall.Input {
	c, h := g.config, g.s.Host
	c.Tunnels = slices.Clone(c.Tunnels)
	h.Routes, h.Links = slices.Clone(h.Routes), slices.Clone(h.Links)
	return firewall.Input{Set: xfrm.Tunnels(g.s), Host: h, Config: c, Guards: slices.Clone(g.guards), Lines: slices.Clone(g.lines)}
}

// fault makes a fault of a packet on the gateway as it is now.
func (g *faultHost) fault(name string, p firewall.Passage, action firewall.Action, number firewall.Case) Fault {
	return Fault{Name: name, Input: g.input(), Passage: p, Want: firewall.Verdict{Action: action, Case: number}}
}

// through is a forwarded packet of a new flow, from one interface to another.
func through(in, out, src, dst string) firewall.Passage {
	e := firewall.Ends{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), SPort: 1024, DPort: 80}
	return firewall.Passage{
		Way: firewall.Through, In: in, Out: out, Proto: xfrm.TCP, Received: e, AfterDNAT: e, Sent: e,
		Flow: firewall.Flow{Proto: xfrm.TCP, OrigSrc: e.Src, OrigDst: e.Dst, ReplySrc: e.Dst, ReplyDst: e.Src, OrigSPort: e.SPort, OrigDPort: e.DPort},
	}
}

// toHost is the same for this host.
func toHost(in, src, dst string) firewall.Passage {
	p := through(in, "", src, dst)
	p.Way, p.DstLocal = firewall.ToHost, true
	return p
}

// fromHost is a packet of this host's own.
func fromHost(out, src, dst string) firewall.Passage {
	p := through("", out, src, dst)
	p.Way, p.SrcLocal = firewall.FromHost, true
	return p
}

// outOf is a packet that came out of an SA with that reqid.
func outOf(reqid uint32, mode xfrm.Mode, peer string, p firewall.Passage) firewall.Passage {
	p.Path = []xfrm.Transform{{Proto: xfrm.ESP, Mode: mode, Reqid: reqid, Src: netip.MustParseAddr(peer), Dst: netip.MustParseAddr("192.0.2.2")}}
	p.Tagged = true
	return p
}

// into is a packet that goes into an SA with that reqid, in tunnel mode.
func into(reqid uint32, peer string, p firewall.Passage) firewall.Passage {
	p.Ahead = []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: reqid, Src: netip.MustParseAddr("192.0.2.2"), Dst: netip.MustParseAddr(peer)}}
	p.AheadSent = p.Ahead
	return p
}

// about is an ICMP error to this host, from the other end of a flow that it began.
func about(src, dst string, proto xfrm.Proto, port uint16) firewall.Passage {
	p := toHost("eth0", src, dst)
	p.Proto, p.ICMPType, p.ICMPCode = xfrm.ICMP, 3, 3
	p.Received.SPort, p.Received.DPort = 0, 0
	p.AfterDNAT, p.Sent = p.Received, p.Received
	p.Flow = firewall.Flow{
		Related: true, Proto: proto, OrigSrc: p.Received.Dst, OrigDst: p.Received.Src, ReplySrc: p.Received.Src, ReplyDst: p.Received.Dst,
		OrigSPort: 1024, OrigDPort: port,
	}
	return p
}
