package fake

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Variety makes up a gateway from a seed: the tunnels of a World after a number
// of steps, and beside them sites of the kinds that a World lacks (IPv6 outside,
// transport mode, overlay devices, block policies), with a configuration, peers
// and rules of others. The same seed gives the same input, and the snapshot that
// it is made from.
func Variety(seed uint64) (xfrm.Snapshot, firewall.Input) {
	r := rand.New(rand.NewPCG(seed, 2026))
	w := NewWorld()
	steps := r.IntN(40)
	if seed%40 == 39 {
		steps = 600 // so many that trees have several levels
	}
	for range steps {
		w.Step(r)
	}
	v := variety{r: r, s: w.Snapshot(), index: 500}
	v.host()
	for range r.IntN(10) + steps/6 {
		v.site()
	}
	v.s.Sort()
	in := firewall.Input{
		Set: xfrm.Tunnels(v.s), Host: v.s.Host, Config: w.Config, Guards: w.Guards,
	}
	r.IntN(8) // keeps the gateways of all seeds
	v.people(&in)
	v.config(&in)
	return v.s, in
}

type variety struct {
	r     *rand.Rand
	s     xfrm.Snapshot
	index int32  // of the last link
	n     uint32 // of the last site
}

func (v *variety) one(in int) bool { return v.r.IntN(in) == 0 }

func (v *variety) link(l xfrm.Link) int32 {
	v.index++
	l.Index = v.index
	v.s.Host.Links = append(v.s.Host.Links, l)
	return l.Index
}

func (v *variety) route(dst string, link int32) {
	v.s.Host.Routes = append(v.s.Host.Routes, xfrm.Route{Dst: netip.MustParsePrefix(dst), Link: link})
}

// host gives the gateway more networks, or takes IPv6 from it.
func (v *variety) host() {
	p := netip.MustParsePrefix
	h := &v.s.Host
	h.Links, h.Addresses, h.Routes = append([]xfrm.Link{}, h.Links...), append([]xfrm.Address{}, h.Addresses...), append([]xfrm.Route{}, h.Routes...)
	h.Addresses = append(h.Addresses, xfrm.Address{Link: 2, Prefix: p("2001:db8:ffff::2/64")})
	h.Routes = append(h.Routes, xfrm.Route{Dst: p("2001:db8:ffff::/64"), Link: 2, Connected: true}, xfrm.Route{Dst: p("fd00:2::/64"), Link: 3, Connected: true})
	if v.one(2) {
		h.Routes = append(h.Routes, xfrm.Route{Dst: p("::/0"), Link: 2, Via: netip.MustParseAddr("2001:db8:ffff::fe")})
	}
	if v.one(3) { // a second LAN on a bridge, in which sites may lie
		bridge := v.link(xfrm.Link{Name: "br0", Kind: "bridge"})
		v.link(xfrm.Link{Name: "eth2", Master: bridge})
		h.Addresses = append(h.Addresses, xfrm.Address{Link: bridge, Prefix: p("10.101.0.1/16")}, xfrm.Address{Link: bridge, Prefix: p("fd00:3::1/48")})
		h.Routes = append(h.Routes, xfrm.Route{Dst: p("10.101.0.0/16"), Link: bridge, Connected: true}, xfrm.Route{Dst: p("fd00:3::/48"), Link: bridge, Connected: true})
	}
	if v.one(4) { // a second uplink
		vlan := v.link(xfrm.Link{Name: "eth0.7", Kind: "vlan", Parent: 2, MTU: 1492})
		h.Addresses = append(h.Addresses, xfrm.Address{Link: vlan, Prefix: p("198.51.100.2/30")})
		h.Routes = append(h.Routes, xfrm.Route{Dst: p("198.51.100.0/30"), Link: vlan, Connected: true},
			xfrm.Route{Dst: p("0.0.0.0/0"), Link: vlan, Via: netip.MustParseAddr("198.51.100.1"), Table: 7})
	}
	if v.one(4) { // networks behind a router in the LAN
		h.Routes = append(h.Routes, xfrm.Route{Dst: p("10.77.0.0/20"), Link: 3, Via: netip.MustParseAddr("10.2.0.254")},
			xfrm.Route{Dst: p("10.102.0.0/24"), Link: 3, Via: netip.MustParseAddr("10.2.0.254")})
	}
	if v.one(6) {
		v.link(xfrm.Link{Name: "odd+"})
	}
	h.ESP6Offload = v.one(4)
	h.NoIPv6 = v.one(12)
}

// ends are one site's addresses: outer ones in one family, networks in another.
type ends struct {
	local, remote         netip.Addr
	localNet, remoteNet   netip.Prefix
	localNets             []netip.Prefix // more with the same remote
	proto, carried        xfrm.Proto
	mode                  xfrm.Mode
	localPort, remotePort xfrm.PortMatch
	ifID                  uint32
	mark                  xfrm.Mark
	comp                  bool
	wild                  bool // templates leave the addresses open
	tune                  func(*xfrm.State)
}

func family(a netip.Addr) xfrm.Family {
	if a.Is4() {
		return xfrm.IPv4
	}
	return xfrm.IPv6
}

// site adds a tunnel of some kind.
func (v *variety) site() {
	v.n++
	e := ends{
		local: netip.MustParseAddr("192.0.2.2"), remote: netip.AddrFrom4([4]byte{198, 18, byte(v.n % 80), 1}),
		localNet: netip.MustParsePrefix("10.2.0.0/24"), remoteNet: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(v.n), 0}), 24),
		proto: xfrm.ESP, mode: xfrm.TunnelMode,
	}
	if v.one(2) {
		e.local, e.remote = netip.MustParseAddr("2001:db8:ffff::2"), netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 1, 15: byte(v.n)})
	}
	if v.one(2) {
		e.localNet, e.remoteNet = netip.MustParsePrefix("fd00:2::/64"), netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 1, 0, byte(v.n)}), 64)
	}
	switch v.r.IntN(16) {
	default:
		if v.one(2) { // several local networks
			e.localNets = []netip.Prefix{netip.PrefixFrom(e.localNet.Addr(), e.localNet.Bits()-3).Masked(), netip.MustParsePrefix("10.77.0.0/16"), netip.MustParsePrefix("fd00:77::/32")}
		}
	case 0:
		v.transport(&e)
	case 1, 2:
		v.device(&e)
	case 3:
		v.vti(&e)
	case 4:
		v.xfrmInterface(&e)
	case 5:
		e.proto = xfrm.AH
	case 6:
		e.comp = true
	case 7:
		e.mode = xfrm.BEETMode
		e.localNet, e.remoteNet = netip.PrefixFrom(e.localNet.Addr().Next(), e.localNet.Addr().BitLen()), netip.PrefixFrom(e.remoteNet.Addr().Next(), e.remoteNet.Addr().BitLen())
	case 8: // everything, with exceptions from it
		v.exception(e)
		e.remoteNet = netip.PrefixFrom(e.remoteNet.Addr(), 0).Masked()
	case 9:
		v.exception(e)
		e.remoteNet = netip.PrefixFrom(e.remoteNet.Addr(), e.remoteNet.Bits()-8).Masked()
	case 10: // single services
		e.carried = []xfrm.Proto{xfrm.TCP, xfrm.UDP, xfrm.SCTP, xfrm.ICMP, xfrm.GRE}[v.r.IntN(5)]
		e.localPort, e.remotePort = v.port(), v.port()
	case 11: // a road warrior, or a whole host
		e.remoteNet = netip.PrefixFrom(e.remoteNet.Addr().Next(), e.remoteNet.Addr().BitLen())
		if v.one(2) {
			e.localNet = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if e.remoteNet.Addr().Is6() {
				e.localNet = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
		}
	case 12: // the peer inside its own network
		e.remoteNet = netip.PrefixFrom(e.remote, e.remote.BitLen()-8).Masked()
		e.localNet = netip.PrefixFrom(e.local, e.local.BitLen())
	case 13:
		e.tune = []func(*xfrm.State){
			func(s *xfrm.State) { s.Offload = xfrm.Offload{Ifindex: 2, Flags: 4} },
			func(s *xfrm.State) { s.SetMark = xfrm.Mark{Value: 0x10, Mask: 0xffffffff} },
			func(s *xfrm.State) { s.Encap = xfrm.Encap{Type: 7, SPort: 4500, DPort: 4500} },
			func(s *xfrm.State) { s.Algs = xfrm.Algs{Crypt: "cbc(aes)", Auth: "hmac(sha256)", ICVBits: 128} },
			func(s *xfrm.State) { s.Algs = xfrm.Algs{} },
			func(s *xfrm.State) { s.Mark = xfrm.Mark{Value: 3, Mask: 3} },
		}[v.r.IntN(6)]
	}
	v.add(e)
}

func (v *variety) port() xfrm.PortMatch {
	return []xfrm.PortMatch{{}, {Port: 22, Mask: 0xffff}, {Port: 1024, Mask: 0xfc00}, {Port: 8, Mask: 0xf}, {Port: 1, Mask: 1}}[v.r.IntN(5)]
}

// transport protects the traffic of two hosts, or one service of it.
func (v *variety) transport(e *ends) {
	e.mode = xfrm.TransportMode
	e.localNet, e.remoteNet = netip.PrefixFrom(e.local, e.local.BitLen()), netip.PrefixFrom(e.remote, e.remote.BitLen())
	if v.one(2) {
		e.carried, e.localPort = xfrm.UDP, xfrm.PortMatch{Port: 1701, Mask: 0xffff}
	}
}

// device has an overlay's packets in transport mode, and perhaps a bridge, a VRF
// or a second overlay above it.
func (v *variety) device(e *ends) {
	v.transport(e)
	kinds := []xfrm.Link{
		{Kind: "gre"}, {Kind: "gretap"}, {Kind: "ipip"}, {Kind: "sit"}, {Kind: "vxlan", Port: 4789}, {Kind: "geneve", Port: 6081}, {Kind: "l2tp", Port: 1701}, {Kind: "l2tp"},
	}
	l := kinds[v.r.IntN(len(kinds))]
	l.Name, l.Local, l.Remote, l.MTU = fmt.Sprintf("ov%d", v.n), e.local, e.remote, 1400
	if l.Kind == "vxlan" && v.one(2) {
		l.Parent = 2
	}
	if v.one(8) {
		l.Local = netip.Addr{}
	}
	e.carried, e.localPort = 0, xfrm.PortMatch{}
	if v.one(2) {
		e.carried = map[string]xfrm.Proto{"gre": xfrm.GRE, "gretap": xfrm.GRE, "ipip": xfrm.IPIP, "sit": xfrm.IPv6in, "vxlan": xfrm.UDP, "geneve": xfrm.UDP}[l.Kind]
	}
	if l.Port != 0 && l.Kind == "l2tp" {
		e.carried, e.localPort = xfrm.UDP, xfrm.PortMatch{Port: 1701, Mask: 0xffff}
	}
	if v.one(3) {
		l.Master = v.link(xfrm.Link{Name: fmt.Sprintf("up%d", v.n), Kind: []string{"bridge", "vrf"}[v.r.IntN(2)]})
	}
	index := v.link(l)
	if v.one(3) {
		inside := netip.AddrFrom4([4]byte{10, 250, byte(v.n), 1})
		v.s.Host.Addresses = append(v.s.Host.Addresses, xfrm.Address{Link: index, Prefix: netip.PrefixFrom(inside, 30)})
		v.link(xfrm.Link{Name: fmt.Sprintf("vx%d", v.n), Kind: "vxlan", Port: 4789, Local: inside, Remote: inside.Next(), Parent: index})
	}
	v.route(fmt.Sprintf("172.20.%d.0/24", v.n), index)
}

// vti has the policies of a VTI device, found by its key.
func (v *variety) vti(e *ends) {
	e.mark = xfrm.Mark{Value: 1000 + v.n, Mask: 0xffffffff}
	index := v.link(xfrm.Link{Name: fmt.Sprintf("vti%d", v.n), Kind: "vti", Local: e.local, Remote: e.remote, IKey: e.mark.Value, OKey: e.mark.Value})
	v.everything(e, index)
}

// xfrmInterface has the policies of an xfrm interface.
func (v *variety) xfrmInterface(e *ends) {
	e.ifID, e.wild = 1000+v.n, v.one(2)
	index := v.link(xfrm.Link{Name: fmt.Sprintf("xf%d", v.n), Kind: "xfrm", IfID: e.ifID})
	v.everything(e, index)
}

// everything gives a routed tunnel wide selectors, and a route into its device.
func (v *variety) everything(e *ends, device int32) {
	v.route(e.remoteNet.String(), device)
	if v.one(2) {
		e.localNet, e.remoteNet = netip.PrefixFrom(e.localNet.Addr(), 0).Masked(), netip.PrefixFrom(e.remoteNet.Addr(), 0).Masked()
	}
}

// exception adds a bypass or a block policy.
func (v *variety) exception(e ends) {
	p := xfrm.Policy{Priority: 10, Action: xfrm.Action(v.r.IntN(2)), Selector: xfrm.Selector{Family: family(e.localNet.Addr()), Src: e.localNet, Dst: e.remoteNet}}
	if v.one(2) {
		p.Selector.Proto, p.Selector.DPort = xfrm.TCP, v.port()
	}
	if v.one(4) {
		p.Mark = xfrm.Mark{Value: 9, Mask: 0xff}
	}
	for _, dir := range []xfrm.Dir{xfrm.Out, xfrm.In, xfrm.Fwd} {
		p.Dir, p.Index = dir, uint32(0x10000+8*len(v.s.Policies))+uint32(dir)
		if dir == xfrm.In {
			p.Selector.Src, p.Selector.Dst = p.Selector.Dst, p.Selector.Src
			p.Selector.SPort, p.Selector.DPort = p.Selector.DPort, p.Selector.SPort
		}
		v.s.Policies = append(v.s.Policies, p)
		if v.one(3) {
			break
		}
	}
}

func (v *variety) add(e ends) {
	reqid := 5000 + v.n
	switch v.r.IntN(12) {
	case 0:
		reqid = 5000
	case 1:
		reqid = 0
	}
	template := func(src, dst netip.Addr) []xfrm.Template {
		t := xfrm.Template{Family: family(src), Src: src, Dst: dst, Proto: e.proto, Mode: e.mode, Reqid: reqid}
		open := netip.IPv6Unspecified()
		if src.Is4() {
			open = netip.IPv4Unspecified()
		}
		if e.mode == xfrm.TransportMode || e.wild {
			t.Src, t.Dst = open, open
		}
		if !e.comp {
			return []xfrm.Template{t}
		}
		inner := t
		inner.Proto = xfrm.Comp
		t.Mode, t.Src, t.Dst = xfrm.TransportMode, open, open
		return []xfrm.Template{inner, t}
	}
	for _, local := range append([]netip.Prefix{e.localNet}, e.localNets...) {
		if family(local.Addr()) != family(e.remoteNet.Addr()) {
			continue
		}
		for _, dir := range []xfrm.Dir{xfrm.In, xfrm.Fwd, xfrm.Out} {
			if dir == xfrm.Fwd && (e.mode == xfrm.TransportMode || v.one(16)) {
				continue
			}
			p := xfrm.Policy{
				Dir: dir, Priority: 2000, IfID: e.ifID, Mark: e.mark, Index: uint32(0x20000+8*len(v.s.Policies)) + uint32(dir),
				Selector:  xfrm.Selector{Family: family(local.Addr()), Src: e.remoteNet, Dst: local, Proto: e.carried, SPort: e.remotePort, DPort: e.localPort},
				Templates: template(e.remote, e.local),
			}
			if dir == xfrm.Out {
				p.Selector = xfrm.Selector{Family: family(local.Addr()), Src: local, Dst: e.remoteNet, Proto: e.carried, SPort: e.localPort, DPort: e.remotePort}
				p.Templates = template(e.local, e.remote)
			}
			v.s.Policies = append(v.s.Policies, p)
		}
	}
	if v.one(8) { // down
		return
	}
	for i, end := range [][2]netip.Addr{{e.remote, e.local}, {e.local, e.remote}} {
		s := xfrm.State{
			Family: family(e.local), Src: end[0], Dst: end[1], SPI: 0xc0000000 + 2*v.n + uint32(i), Proto: e.proto, Mode: e.mode, Reqid: reqid, IfID: e.ifID,
			Algs: xfrm.Algs{AEAD: "rfc4106(gcm(aes))", ICVBits: 128},
		}
		if e.mark.Mask != 0 {
			s.Mark = e.mark
		}
		if e.comp {
			s.Mode = xfrm.TransportMode
		}
		if e.tune != nil {
			e.tune(&s)
		}
		v.s.States = append(v.s.States, s)
	}
}
