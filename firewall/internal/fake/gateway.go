package fake

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Gateway makes up a gateway with tunnels of all kinds, devices above them, a memory
// and a configuration.
func Gateway(r *rand.Rand) firewall.Input {
	w := NewWorld()
	for range 5 + r.IntN(120) {
		w.Step(r)
	}
	return w.gateway(r)
}

// Crowd makes up a gateway with so many tunnels that the trees of the rules branch, with
// SAs in another mode than that of tunnels, and with exceptions for packets to the host
// alone. No tunnel owns all addresses.
func Crowd(r *rand.Rand) firewall.Input {
	w := NewWorld()
	for range 500 {
		w.up(r)
	}
	for range 100 {
		w.Step(r)
	}
	w.tunnels = slices.DeleteFunc(w.tunnels, func(t tunnel) bool { return t.ifID != 0 })
	in := w.gateway(r)
	for i := range 30 {
		in.Set.Tunnels[i].Mode = xfrm.BEETMode
	}
	for _, t := range w.tunnels[:20] {
		p := t.pairs[0]
		in.Set.Exceptions = append(in.Set.Exceptions, xfrm.Exception{
			Pair: xfrm.Pair{Local: p.local, Remote: p.remote, Dirs: 1 << xfrm.In}, Action: xfrm.Allow, Priority: 10,
		})
	}
	slices.SortStableFunc(in.Set.Exceptions, func(a, b xfrm.Exception) int { return cmp.Compare(a.Priority, b.Priority) })
	return in
}

func (w *World) gateway(r *rand.Rand) firewall.Input {
	p := netip.MustParsePrefix
	a := netip.MustParseAddr
	if r.IntN(3) == 0 {
		w.Host.Links = append(w.Host.Links, xfrm.Link{Index: 50, Name: "br0", Kind: "bridge"},
			xfrm.Link{Index: 51, Name: "gre1", Kind: "gre", Local: a("192.0.2.2"), Remote: a("203.0.0.1"), Master: 50},
			xfrm.Link{Index: 52, Name: "vti1", Kind: "vti", IKey: 7, OKey: 7},
			xfrm.Link{Index: 53, Name: "vx0", Kind: "vxlan", Local: a("172.31.0.1"), Remote: a("172.31.0.2"), Port: 4789},
		)
		w.Host.Routes = append(w.Host.Routes, xfrm.Route{Dst: p("172.31.0.0/24"), Link: 51, Connected: true}, xfrm.Route{Dst: p("10.101.0.0/16"), Link: 52, Connected: true}, xfrm.Route{Dst: p("10.101.7.0/24"), Link: 3, Connected: true})
		w.Host.Addresses = append(w.Host.Addresses, xfrm.Address{Link: 51, Prefix: p("172.31.0.1/24")}, xfrm.Address{Link: 3, Prefix: p("10.102.0.1/20")})
	}
	if r.IntN(3) == 0 { // a local selector wider than the LAN
		w.Host.Addresses = append([]xfrm.Address{{Link: 3, Prefix: p("10.2.0.1/26")}}, w.Host.Addresses[:1]...)
		w.Host.Routes = append([]xfrm.Route{{Dst: p("10.2.0.0/26"), Link: 3, Connected: true}}, w.Host.Routes[0], w.Host.Routes[2])
	}
	in := w.Input()
	c := &in.Config
	if r.IntN(3) == 0 {
		c.WAN = []string{"eth0"}
		if r.IntN(2) == 0 {
			c.Lockdown = &firewall.Lockdown{Services: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(22)}, {Proto: xfrm.ICMP}}}
		}
	}
	if r.IntN(4) == 0 {
		c.MarkOnly = true
	}
	if r.IntN(2) == 0 {
		c.Log = firewall.LogConfig{Kernel: r.IntN(2) == 0, Group: 5, PerSecond: 5}
	}
	if r.IntN(4) == 0 {
		c.Guard.Asymmetric = []string{"eth1"}
	}
	if r.IntN(4) == 0 {
		in.NATSources = []netip.Prefix{p("10.77.3.0/24")}
	}
	r.IntN(4) // keeps the gateways of all seeds
	if r.IntN(3) == 0 {
		in.Peers = make(map[string]firewall.Peer)
		for i, t := range in.Set.Tunnels {
			if i%3 == 0 {
				in.Peers[t.ID] = firewall.Peer{Connection: "office", Identity: "moon"}
			}
		}
		c.Tunnels = append(c.Tunnels, firewall.TunnelConfig{Match: firewall.Match{Connection: "office"}, Name: "off", Out: []firewall.Service{{Proto: xfrm.UDP}}, Remote: []netip.Prefix{p("10.100.0.0/16"), p("10.104.0.0/14")}, MSS: firewall.MSS{Size: 1300}},
			firewall.TunnelConfig{Match: firewall.Match{Peer: p("203.0.0.0/28")}, MSS: firewall.MSS{Auto: true}, In: []firewall.Service{}, KeepNAT: true})
	}
	for i := range in.Set.Tunnels {
		t := &in.Set.Tunnels[i]
		if r.IntN(17) == 0 {
			t.Comp = true
		}
		if r.IntN(13) == 0 {
			for j := range t.SAs {
				t.SAs[j].Mark = xfrm.Mark{Value: 1 << 28, Mask: 1 << 28}
			}
		}
		if r.IntN(19) == 0 {
			t.Pairs[0].Mark = xfrm.Mark{Value: 9, Mask: 0xffffffff}
		}
		if r.IntN(100) == 0 {
			for j := range t.SAs {
				t.SAs[j].Offload.Ifindex, t.SAs[j].Offload.Flags = 2, 4
			}
		}
	}
	return in
}
