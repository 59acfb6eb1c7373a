package fake

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// World is a gateway with tunnels that come and go.
type World struct {
	Host    xfrm.Host
	Config  firewall.Config
	Guards  []guard.Guard
	tunnels []tunnel
	spi     uint32
	next    int
	// Did counts events by name.
	Did map[string]int
}

// tunnel is the states and policies that an IKE daemon installs for one connection.
type tunnel struct {
	reqid    uint32
	peer     netip.Addr
	pairs    []pair
	up, old  bool // has states; has those from before the rekey too
	spi      uint32
	ifID     uint32
	bypass   netip.Prefix
	optional bool
	encap    uint16
	mark     xfrm.Mark
}

type pair struct {
	local, remote netip.Prefix
	proto         xfrm.Proto
	port          uint16
}

// NewWorld returns a gateway without tunnels.
func NewWorld() *World {
	p := netip.MustParsePrefix
	return &World{
		Config: firewall.Config{Marks: firewall.DefaultMarks()},
		Did:    make(map[string]int),
		Host: xfrm.Host{
			Links: []xfrm.Link{{Index: 1, Name: "lo"}, {Index: 2, Name: "eth0", MTU: 1500}, {Index: 3, Name: "eth1", MTU: 1500}},
			Addresses: []xfrm.Address{
				{Link: 2, Prefix: p("192.0.2.2/24")}, {Link: 3, Prefix: p("10.2.0.1/24")}, {Link: 3, Prefix: p("fd00:2::1/64")},
			},
			Routes: []xfrm.Route{
				{Dst: p("192.0.2.0/24"), Link: 2, Connected: true}, {Dst: p("10.2.0.0/24"), Link: 3, Connected: true},
				{Dst: p("0.0.0.0/0"), Link: 2, Via: netip.MustParseAddr("192.0.2.254")},
			},
		},
	}
}

// Empty takes all tunnels away.
func (w *World) Empty() { w.tunnels = nil }

// Step lets something happen: mostly tunnels come, go, rekey and change their
// selectors, now and then the host or the memory changes.
func (w *World) Step(r *rand.Rand) {
	did := "up"
	switch n := r.IntN(100); {
	case n < 30 || len(w.tunnels) < 3:
		w.up(r)
	case n < 50:
		did = "down"
		at := r.IntN(len(w.tunnels))
		if t := w.tunnels[at]; r.IntN(2) == 0 && t.pairs[0].remote.Bits() > 8 {
			p := t.pairs[0]
			w.Guards = append(w.Guards, guard.Guard{
				Local: p.local, Remote: p.remote, Proto: p.proto, Source: guard.FromMemory, Priority: 1000, Peer: t.peer,
				Tunnel: fmt.Sprintf("m%d", t.reqid), Since: int64(r.IntN(100)), Expires: 1000 + int64(r.IntN(100)),
			})
		}
		w.tunnels = slices.Delete(w.tunnels, at, at+1)
	case n < 70:
		did = "rekey"
		t := &w.tunnels[r.IntN(len(w.tunnels))]
		w.spi += 2
		t.spi, t.old = w.spi, !t.old
	case n < 78:
		did = "selectors"
		t := &w.tunnels[r.IntN(len(w.tunnels))]
		t.pairs = w.pairs(r)
	case n < 86:
		did = "states"
		t := &w.tunnels[r.IntN(len(w.tunnels))]
		t.up = !t.up
	case n < 90:
		did = "reqid"
		w.tunnels[r.IntN(len(w.tunnels))].reqid = w.tunnels[r.IntN(len(w.tunnels))].reqid + uint32(r.IntN(2))
	case n < 94 && len(w.Guards) > 0:
		did = "forget"
		w.Guards = slices.Delete(w.Guards, 0, 1+r.IntN(len(w.Guards)))
	case n < 97:
		did = "host"
		w.Host.ESP4Offload = !w.Host.ESP4Offload
		// Case 8d asks for a route to a local selector.
		route := xfrm.Route{Dst: netip.MustParsePrefix("10.77.0.0/16"), Link: 3}
		w.Host.Routes = slices.Clone(w.Host.Routes)
		if i := slices.Index(w.Host.Routes, route); i >= 0 {
			w.Host.Routes = slices.Delete(w.Host.Routes, i, i+1)
		} else {
			w.Host.Routes = append(w.Host.Routes, route)
		}
	case n < 99:
		did = "config"
		w.config(r)
	default:
		did = "nothing"
	}
	w.Did[did]++
}

func (w *World) config(r *rand.Rand) {
	c := firewall.Config{Marks: firewall.DefaultMarks(), Enforce: r.IntN(3) == 0}
	if r.IntN(2) == 0 {
		c.Tunnels = []firewall.TunnelConfig{{
			Match: firewall.Match{Reqid: w.tunnels[0].reqid}, In: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(22)}},
			Remote: []netip.Prefix{w.tunnels[0].pairs[0].remote}, MSS: firewall.MSS{Auto: true}, KeepNAT: r.IntN(2) == 0,
		}}
	}
	if r.IntN(4) == 0 {
		c.Marks = firewall.Marks{Tag: 1 << 24, Verified: 1 << 25}
	}
	w.Config = c
}

func (w *World) up(r *rand.Rand) {
	w.next++
	w.spi += 2
	t := tunnel{
		reqid: uint32(w.next), up: r.IntN(8) > 0, spi: w.spi, pairs: w.pairs(r),
		peer: netip.AddrFrom4([4]byte{203, 0, byte(w.next >> 8), byte(w.next)}),
	}
	switch r.IntN(16) {
	case 0:
		t.bypass = []netip.Prefix{netip.MustParsePrefix("10.100.0.0/14"), netip.MustParsePrefix("10.100.9.64/26")}[r.IntN(2)]
	case 1:
		t.optional = true
	case 2:
		t.encap = 14500
	case 3:
		t.mark = xfrm.Mark{Value: 7, Mask: 0xffffffff}
	case 4:
		t.ifID = uint32(w.next)
		t.pairs = []pair{{local: netip.MustParsePrefix("0.0.0.0/0"), remote: netip.MustParsePrefix("0.0.0.0/0")}}
		w.Host.Links = append(slices.Clone(w.Host.Links), xfrm.Link{Index: int32(100 + w.next), Name: fmt.Sprintf("ipsec%d", w.next), Kind: "xfrm", IfID: t.ifID})
	}
	w.tunnels = append(w.tunnels, t)
}

// pairs makes up selectors: sites of their own mostly, of which half are numbered
// one after the other, some that overlap others, the LAN, or their own local end.
func (w *World) pairs(r *rand.Rand) []pair {
	p := netip.MustParsePrefix
	locals := []netip.Prefix{p("10.2.0.0/24"), p("10.2.0.0/24"), p("10.2.0.0/24"), p("10.77.0.0/16"), p("10.99.0.5/32"), p("0.0.0.0/0")}
	var list []pair
	for range 1 + r.IntN(4)/3 + r.IntN(8)/7 {
		one := pair{local: locals[r.IntN(len(locals))]}
		a := [4]byte{10, byte(100 + r.IntN(8)), byte(r.IntN(256)), byte(r.IntN(256))}
		bits := 24
		if r.IntN(2) == 0 {
			one.local, a[1], a[2] = locals[0], 100, byte(r.IntN(48))
		}
		switch r.IntN(12) {
		case 0:
			bits = 8 + r.IntN(16)
		case 1:
			bits = 32
		case 2:
			one.proto, one.port = xfrm.TCP, uint16(r.IntN(3)*22)
		case 3:
			one.local = p("fd00:2::/64")
			six := [16]byte{0: 0xfd, 3: byte(r.IntN(8)), 5: byte(r.IntN(256))}
			one.remote = netip.PrefixFrom(netip.AddrFrom16(six), 48).Masked()
		}
		if !one.remote.IsValid() {
			one.remote = netip.PrefixFrom(netip.AddrFrom4(a), bits).Masked()
		}
		if !slices.Contains(list, one) {
			list = append(list, one)
		}
	}
	return list
}

// Input is Compile's input now.
func (w *World) Input() firewall.Input {
	s := w.Snapshot()
	return firewall.Input{Set: xfrm.Tunnels(s), Host: s.Host, Config: w.Config, Guards: slices.Clone(w.Guards)}
}

// Snapshot is a reading of the kernel now.
func (w *World) Snapshot() xfrm.Snapshot {
	s := xfrm.Snapshot{Schema: xfrm.SchemaVersion, Host: w.Host}
	local := netip.MustParseAddr("192.0.2.2")
	for i := range w.tunnels {
		w.tunnels[i].add(&s, local)
	}
	s.Sort()
	return s
}

func (t *tunnel) add(s *xfrm.Snapshot, local netip.Addr) {
	for _, p := range t.pairs {
		family := xfrm.IPv6
		if p.remote.Addr().Is4() {
			family = xfrm.IPv4
		}
		port := xfrm.PortMatch{}
		if p.port != 0 {
			port = xfrm.PortMatch{Port: p.port, Mask: 0xffff}
		}
		for _, dir := range []xfrm.Dir{xfrm.In, xfrm.Fwd, xfrm.Out} {
			policy := xfrm.Policy{
				Dir: dir, Priority: 1000, IfID: t.ifID, Mark: t.mark, Index: uint32(8*len(s.Policies)) + uint32(dir),
				Selector:  xfrm.Selector{Family: family, Src: p.remote, Dst: p.local, Proto: p.proto, DPort: port},
				Templates: []xfrm.Template{{Family: xfrm.IPv4, Src: t.peer, Dst: local, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: t.reqid, Optional: t.optional}},
			}
			if dir == xfrm.Out {
				policy.Selector = xfrm.Selector{Family: family, Src: p.local, Dst: p.remote, Proto: p.proto, SPort: port}
				policy.Templates[0].Src, policy.Templates[0].Dst = local, t.peer
			}
			s.Policies = append(s.Policies, policy)
		}
	}
	if t.bypass.IsValid() && t.pairs[0].local.Addr().Is4() {
		s.Policies = append(s.Policies, xfrm.Policy{
			Dir: xfrm.Out, Priority: 10, Index: uint32(8 * len(s.Policies)),
			Selector: xfrm.Selector{Family: xfrm.IPv4, Src: t.pairs[0].local, Dst: t.bypass},
		})
	}
	if !t.up {
		return
	}
	spis := []uint32{t.spi}
	if t.old {
		spis = append(spis, t.spi+0x10000)
	}
	for _, spi := range spis {
		state := xfrm.State{
			Family: xfrm.IPv4, Src: t.peer, Dst: local, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: t.reqid, IfID: t.ifID,
			SPI: 0x1000 + spi, Algs: xfrm.Algs{AEAD: "rfc4106(gcm(aes))", ICVBits: 128},
		}
		if t.encap != 0 {
			state.Encap = xfrm.Encap{Type: 2, SPort: 4500, DPort: t.encap}
		}
		s.States = append(s.States, state)
		state.Src, state.Dst, state.SPI = state.Dst, state.Src, state.SPI+1
		s.States = append(s.States, state)
	}
}
