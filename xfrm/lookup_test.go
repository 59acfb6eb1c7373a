package xfrm_test

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

func flow(src, dst string, tune func(*xfrm.Flow)) xfrm.Flow {
	f := xfrm.Flow{Src: ip(src), Dst: ip(dst), Proto: xfrm.TCP, SPort: 40000, DPort: 22}
	if tune != nil {
		tune(&f)
	}
	return f
}

func TestLookup(t *testing.T) {
	g := gate{}
	g.site(1, "192.0.2.1", "10.2.0.0/24", "10.1.0.0/16")
	add := func(priority, index uint32, tune func(*xfrm.Policy)) {
		p := xfrm.Policy{Dir: xfrm.Out, Priority: priority, Index: index}
		p.Selector = xfrm.Selector{Family: xfrm.IPv4, Src: pfx("10.2.0.0/24"), Dst: pfx("10.1.7.0/24")}
		tune(&p)
		g.Policies = append(g.Policies, p)
	}
	add(50, 9, func(p *xfrm.Policy) { p.Selector.Dst = pfx("10.1.1.0/24") })
	add(200, 10, func(p *xfrm.Policy) { p.Selector.Dst = pfx("10.1.2.0/24") })
	add(50, 11, func(p *xfrm.Policy) {
		p.Selector.Proto, p.Selector.DPort = xfrm.TCP, xfrm.PortMatch{Port: 0x1000, Mask: 0xff00}
	})
	add(50, 12, func(p *xfrm.Policy) { p.Selector.Dst, p.IfID = pfx("10.0.0.0/8"), 7 })
	add(50, 13, func(p *xfrm.Policy) { p.Selector.Dst, p.Mark = pfx("10.0.0.0/8"), xfrm.Mark{Value: 42, Mask: 0xff} })
	add(50, 15, func(p *xfrm.Policy) { p.Selector.Dst, p.Action = pfx("10.1.3.0/24"), xfrm.Block })
	add(50, 14, func(p *xfrm.Policy) { p.Selector.Dst = pfx("10.1.3.0/24") })
	add(50, 16, func(p *xfrm.Policy) {
		p.Selector.Dst, p.Selector.Proto, p.Selector.SPort = pfx("10.1.0.0/16"), xfrm.ICMP, xfrm.PortMatch{Port: 3, Mask: 0xffff}
	})
	add(10, 17, func(p *xfrm.Policy) { p.Selector.Dst, p.Selector.Ifindex = pfx("10.1.0.0/16"), 5 })
	add(1, 18, func(p *xfrm.Policy) { p.Selector.Dst, p.Dir = pfx("0.0.0.0/0"), xfrm.SocketOut })
	for _, test := range []struct {
		name  string
		dir   xfrm.Dir
		flow  xfrm.Flow
		index uint32 // 0 is the tunnel's, 99 is none
	}{
		{"the tunnel's", xfrm.Out, flow("10.2.0.5", "10.1.9.9", nil), 0},
		{"inbound", xfrm.In, flow("10.1.9.9", "10.2.0.5", nil), 0},
		{"forwarded", xfrm.Fwd, flow("10.1.9.9", "10.2.0.5", nil), 0},
		{"the other way round", xfrm.In, flow("10.2.0.5", "10.1.9.9", nil), 99},
		{"a bypass before it", xfrm.Out, flow("10.2.0.5", "10.1.1.9", nil), 9},
		{"a bypass after it", xfrm.Out, flow("10.2.0.5", "10.1.2.9", nil), 0},
		{"a masked port", xfrm.Out, flow("10.2.0.5", "10.1.7.9", func(f *xfrm.Flow) { f.DPort = 0x10ab }), 11},
		{"another port", xfrm.Out, flow("10.2.0.5", "10.1.7.9", func(f *xfrm.Flow) { f.DPort = 0x11ab }), 0},
		{"of an interface", xfrm.Out, flow("10.2.0.5", "10.9.0.9", func(f *xfrm.Flow) { f.IfID = 7 }), 12},
		{"of another interface", xfrm.Out, flow("10.2.0.5", "10.9.0.9", func(f *xfrm.Flow) { f.IfID = 8 }), 99},
		{"of a mark", xfrm.Out, flow("10.2.0.5", "10.9.0.9", func(f *xfrm.Flow) { f.Mark = 0x300 + 42 }), 13},
		{"the first of equal ones", xfrm.Out, flow("10.2.0.5", "10.1.3.9", nil), 14},
		{"an ICMP type", xfrm.Out, flow("10.2.0.5", "10.1.9.9", func(f *xfrm.Flow) { f.Proto, f.SPort, f.DPort = xfrm.ICMP, 3, 1 }), 16},
		{"of a link", xfrm.Out, flow("10.2.0.5", "10.1.9.9", func(f *xfrm.Flow) { f.Ifindex = 5 }), 17},
		{"nothing's", xfrm.Out, flow("10.3.0.5", "10.1.9.9", nil), 99},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, ok := g.Lookup(test.dir, test.flow)
			if ok != (test.index != 99) || ok && p.Index != test.index {
				t.Errorf("found %v, index %d (%s), want %d", ok, p.Index, p.Selector, test.index)
			}
		})
	}
}

func TestOwner(t *testing.T) {
	g := gate{}
	g.site(1, "192.0.2.1", "10.2.0.0/24", "10.1.0.0/16")
	g.site(2, "192.0.2.7", "10.2.0.0/24", "10.7.0.0/16")
	g.pair("10.2.0.0/24", "10.8.0.0/16", nil, nil, nil) // a bypass
	set := xfrm.Tunnels(g.Snapshot)
	for _, p := range g.Policies {
		i, ok := set.Owner(p)
		if want := len(p.Templates) > 0; ok != want || ok && set.Tunnels[i].Reqid != p.Templates[0].Reqid {
			t.Errorf("policy %s %s: tunnel %d, %v", p.Dir, p.Selector, i, ok)
		}
	}
	p := g.Policies[0]
	p.Selector.Src = pfx("10.99.0.0/16")
	if _, ok := set.Owner(p); ok {
		t.Error("a policy of other selectors was taken for the tunnel's")
	}
}

func TestRoute(t *testing.T) {
	h := xfrm.Host{Routes: []xfrm.Route{
		{Dst: pfx("0.0.0.0/0"), Link: 2, Table: 254}, {Dst: pfx("10.1.0.0/16"), Link: 3, Table: 254},
		{Dst: pfx("10.1.2.0/24"), Link: 4, Table: 220}, {Dst: pfx("0.0.0.0/0"), Link: 9, Table: 100},
		{Dst: pfx("fd00::/8"), Link: 5},
	}}
	for dst, want := range map[string]int32{"10.1.2.3": 4, "10.1.3.3": 3, "198.51.100.1": 2, "fd00::1": 5, "2001:db8::1": 0} {
		if r, ok := h.Route(ip(dst)); r.Link != want || ok != (want != 0) {
			t.Errorf("%s goes by link %d (%v), want %d", dst, r.Link, ok, want)
		}
	}
}
