package main

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The gateway that is measured: one LAN, one uplink, and n sites, each with a
// /24 of its own behind a peer of its own.
var (
	lan     = netip.MustParsePrefix("172.16.0.0/16")
	lanAddr = netip.MustParsePrefix("172.16.0.1/16")
	wanAddr = netip.MustParsePrefix("198.51.100.2/24")
	router  = netip.MustParseAddr("198.51.100.1")
)

// site is the remote network of tunnel n.
func site(n int) netip.Prefix {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 10<<24|uint32(n)<<8)
	return netip.PrefixFrom(netip.AddrFrom4(a), 24)
}

// peer is the outer address of tunnel n's other end.
func peer(n int) netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 100<<24|64<<16+uint32(n)+1)
	return netip.AddrFrom4(a)
}

func reqid(n int) uint32 { return uint32(n + 1) }

// host is the gateway's links, addresses and routes, as the kernel would list them.
func host() xfrm.Host {
	return xfrm.Host{
		Links: []xfrm.Link{{Index: 1, Name: "lo"}, {Index: 2, Name: "wan0", MTU: 1500}, {Index: 3, Name: "lan0", MTU: 1500}},
		Addresses: []xfrm.Address{
			{Link: 2, Prefix: wanAddr}, {Link: 3, Prefix: lanAddr},
		},
		Routes: []xfrm.Route{
			{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: router, Link: 2},
			{Dst: wanAddr.Masked(), Link: 2}, {Dst: lan, Link: 3},
		},
	}
}

// policies are those of tunnel n. Use gives them "level use", with which the
// administrator lets the traffic pass in clear: such a tunnel has no guards.
func policies(n int, use bool) []xfrm.Policy {
	var list []xfrm.Policy
	for _, dir := range []xfrm.Dir{xfrm.In, xfrm.Fwd, xfrm.Out} {
		p := xfrm.Policy{
			Selector: xfrm.Selector{Src: site(n), Dst: lan}, Dir: dir, Priority: 1000, Index: uint32(n*8) + uint32(dir),
			Templates: []xfrm.Template{{
				Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: reqid(n), Src: peer(n), Dst: wanAddr.Addr(), Optional: use,
			}},
		}
		if dir == xfrm.Out {
			p.Selector.Src, p.Selector.Dst = p.Selector.Dst, p.Selector.Src
			t := &p.Templates[0]
			t.Src, t.Dst = t.Dst, t.Src
		}
		list = append(list, p)
	}
	return list
}

// states are the pair of tunnel n in its given generation.
func states(n, generation int) []xfrm.State {
	spi := uint32(0x1000 + 2*n + generation<<20)
	in := xfrm.State{
		Src: peer(n), Dst: wanAddr.Addr(), Proto: xfrm.ESP, SPI: spi, Family: xfrm.IPv4,
		Mode: xfrm.TunnelMode, Reqid: reqid(n), Algs: xfrm.Algs{AEAD: "rfc4106(gcm(aes))", ICVBits: 128},
	}
	out := in
	out.Src, out.Dst, out.SPI = in.Dst, in.Src, spi+1
	return []xfrm.State{in, out}
}

// snapshot is the whole of n tunnels that are up.
func snapshot(n int, use bool) xfrm.Snapshot {
	s := xfrm.Snapshot{Schema: xfrm.SchemaVersion, Host: host()}
	for i := range n {
		s.Policies = append(s.Policies, policies(i, use)...)
		s.States = append(s.States, states(i, 0)...)
	}
	s.Sort()
	return s
}

// numbering is how the sites of a world are numbered.
type numbering struct {
	name string
	of   func(n int) xfrm.Snapshot
}

// numberings are one after the other, and so that no two sites are neighbours:
// guards need fewer rules for a row of neighbours.
func numberings() []numbering {
	return []numbering{
		{"", func(n int) xfrm.Snapshot { return snapshot(n, false) }},
		{", no two sites neighbours", func(n int) xfrm.Snapshot { return apart(snapshot(n, false)) }},
	}
}

// apart leaves room for another site between any two.
func apart(s xfrm.Snapshot) xfrm.Snapshot {
	twice := func(p netip.Prefix) netip.Prefix {
		if p.Bits() != 24 {
			return p
		}
		a := p.Addr().As4()
		binary.BigEndian.PutUint32(a[:], 10<<24|(binary.BigEndian.Uint32(a[:])&^(10<<24))<<1)
		return netip.PrefixFrom(netip.AddrFrom4(a), 24)
	}
	s.Policies = slices.Clone(s.Policies)
	for i := range s.Policies {
		selector := &s.Policies[i].Selector
		selector.Src, selector.Dst = twice(selector.Src), twice(selector.Dst)
	}
	s.Sort()
	return s
}

// input is the input of Compile for a snapshot.
func input(s xfrm.Snapshot) firewall.Input { return inputOf(s, xfrm.Tunnels(s)) }

// inputOf is input where the snapshot has been joined.
func inputOf(s xfrm.Snapshot, set xfrm.Set) firewall.Input {
	return firewall.Input{Set: set, Host: s.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()}}
}
