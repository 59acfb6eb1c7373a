package xfrm_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// gate builds the snapshot of a gateway at 192.0.2.2 with peers elsewhere.
type gate struct{ xfrm.Snapshot }

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func familyOf(a netip.Addr) xfrm.Family {
	if a.Is4() {
		return xfrm.IPv4
	}
	return xfrm.IPv6
}

// tmpl is an ESP template in tunnel mode, from src to dst.
func tmpl(reqid uint32, src, dst string) xfrm.Template {
	return xfrm.Template{Family: familyOf(ip(src)), Src: ip(src), Dst: ip(dst), Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: reqid}
}

// pair adds the policies in, fwd and out for one pair of selectors.
func (g *gate) pair(local, remote string, in, out []xfrm.Template, tune func(*xfrm.Policy)) {
	for _, d := range []xfrm.Dir{xfrm.In, xfrm.Fwd, xfrm.Out} {
		p := xfrm.Policy{Dir: d, Priority: 100, Templates: in}
		p.Selector = xfrm.Selector{Family: familyOf(pfx(local).Addr()), Src: pfx(remote), Dst: pfx(local)}
		if d == xfrm.Out {
			p.Selector.Src, p.Selector.Dst, p.Templates = p.Selector.Dst, p.Selector.Src, out
		}
		if tune != nil {
			tune(&p)
		}
		g.Policies = append(g.Policies, p)
	}
}

func (g *gate) site(reqid uint32, peer, local, remote string) {
	g.pair(local, remote, []xfrm.Template{tmpl(reqid, peer, "192.0.2.2")}, []xfrm.Template{tmpl(reqid, "192.0.2.2", peer)}, nil)
}

func (g *gate) states(reqid uint32, peer string, spi uint32, tune func(*xfrm.State)) {
	for i, ends := range [][2]string{{peer, "192.0.2.2"}, {"192.0.2.2", peer}} {
		st := xfrm.State{Family: familyOf(ip(peer)), Src: ip(ends[0]), Dst: ip(ends[1]), SPI: spi + uint32(i), Proto: xfrm.ESP,
			Mode: xfrm.TunnelMode, Reqid: reqid, Algs: xfrm.Algs{AEAD: "rfc4106(gcm(aes))"}}
		if tune != nil {
			tune(&st)
		}
		g.States = append(g.States, st)
	}
}

func one(t *testing.T, g gate) xfrm.Tunnel {
	t.Helper()
	set := xfrm.Tunnels(g.Snapshot)
	if len(set.Tunnels) != 1 {
		t.Fatalf("%d tunnels, want 1: %+v; ignored %+v", len(set.Tunnels), set.Tunnels, set.Ignored)
	}
	return set.Tunnels[0]
}

func TestTunnelOfPoliciesAndStates(t *testing.T) {
	var g gate
	g.site(1, "192.0.2.1", "10.2.0.0/24", "10.1.0.0/24")
	g.site(1, "192.0.2.1", "10.2.0.0/24", "10.9.0.0/24")
	g.pair("fd00:2::/64", "::/0", []xfrm.Template{tmpl(1, "192.0.2.1", "192.0.2.2")}, []xfrm.Template{tmpl(1, "192.0.2.2", "192.0.2.1")}, nil)
	g.states(1, "192.0.2.1", 0x100, nil)
	g.states(1, "192.0.2.1", 0x200, func(s *xfrm.State) { s.Encap = xfrm.Encap{Type: 2, SPort: 4500, DPort: 4500} }) // a rekey, behind NAT now
	g.states(1, "192.0.2.1", 0x300, func(s *xfrm.State) { s.CPU = 1 })
	got := one(t, g)
	if !got.Up() || got.Local != ip("192.0.2.2") || got.Remote != ip("192.0.2.1") || got.Reqid != 1 || got.Mode != xfrm.TunnelMode {
		t.Errorf("got %+v", got)
	}
	if len(got.SAs) != 6 || !got.SAs[0].Inbound || got.SAs[0].SPI != 0x100 || got.SAs[3].Inbound || got.SAs[3].SPI != 0x101 {
		t.Errorf("states %+v", got.SAs)
	}
	var pairs []string
	for _, p := range got.Pairs {
		if !p.Has(xfrm.In) || !p.Has(xfrm.Fwd) || !p.Has(xfrm.Out) {
			t.Errorf("pair %+v is not of all directions", p)
		}
		pairs = append(pairs, p.Remote.String()+" "+p.Local.String())
	}
	want := []string{"10.1.0.0/24 10.2.0.0/24", "10.9.0.0/24 10.2.0.0/24", "::/0 fd00:2::/64"}
	if !slices.Equal(pairs, want) {
		t.Errorf("pairs %v, want %v", pairs, want)
	}
}

func TestTunnelIsKeptApart(t *testing.T) {
	for name, build := range map[string]func(*gate){
		"by reqid": func(g *gate) {
			g.site(1, "192.0.2.1", "10.2.0.0/24", "10.1.0.0/24")
			g.site(2, "192.0.2.1", "10.2.0.0/24", "10.3.0.0/24")
		},
		"by peer, with one reqid for all": func(g *gate) {
			g.site(5, "198.51.100.1", "10.2.0.0/24", "10.50.0.1/32")
			g.site(5, "198.51.100.2", "10.2.0.0/24", "10.50.0.2/32")
		},
		"by if_id, with manual keying": func(g *gate) {
			for id := range uint32(2) {
				g.pair("0.0.0.0/0", "0.0.0.0/0", []xfrm.Template{tmpl(0, "192.0.2.1", "192.0.2.2")}, []xfrm.Template{tmpl(0, "192.0.2.2", "192.0.2.1")},
					func(p *xfrm.Policy) { p.IfID = id + 1 })
			}
		},
	} {
		var g gate
		build(&g)
		set := xfrm.Tunnels(g.Snapshot)
		if len(set.Tunnels) != 2 || set.Tunnels[0].ID == set.Tunnels[1].ID {
			t.Errorf("%s: %+v", name, set.Tunnels)
		}
	}
}

// However many tunnels have one reqid, and pairs one tunnel.
func TestTunnelsWithMuchInCommon(t *testing.T) {
	var g gate
	const many = 30
	for i := range many {
		g.site(7, fmt.Sprintf("203.0.113.%d", i+1), "10.2.0.0/24", fmt.Sprintf("10.%d.0.0/24", 100+i))
		g.site(8, "203.0.113.200", "10.2.0.0/24", fmt.Sprintf("10.1.%d.0/24", i))
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(g.Policies), func(i, j int) { g.Policies[i], g.Policies[j] = g.Policies[j], g.Policies[i] })
	set := xfrm.Tunnels(g.Snapshot)
	if len(set.Tunnels) != many+1 {
		t.Fatalf("%d tunnels, want %d", len(set.Tunnels), many+1)
	}
	for _, tun := range set.Tunnels {
		want := 1
		if tun.Reqid == 8 {
			want = many
		}
		if len(tun.Pairs) != want {
			t.Errorf("reqid %d to %s: %d pairs, want %d", tun.Reqid, tun.Remote, len(tun.Pairs), want)
		}
		for _, p := range tun.Pairs {
			if !p.Has(xfrm.In) || !p.Has(xfrm.Out) || !p.Has(xfrm.Fwd) {
				t.Errorf("%s has directions %b", p.Remote, p.Dirs)
			}
		}
	}
}

func TestTunnelIPComp(t *testing.T) {
	comp := func(src, dst string) []xfrm.Template {
		list := []xfrm.Template{tmpl(3, src, dst), {Family: xfrm.IPv4, Src: ip("0.0.0.0"), Dst: ip("0.0.0.0"), Proto: xfrm.ESP, Mode: xfrm.TransportMode, Reqid: 3}}
		list[0].Proto, list[0].Optional = xfrm.Comp, true
		return list
	}
	var g gate
	g.pair("10.2.0.0/24", "10.1.0.0/24", comp("192.0.2.1", "192.0.2.2"), comp("192.0.2.2", "192.0.2.1"), nil)
	g.states(3, "192.0.2.1", 0x100, func(s *xfrm.State) { s.Mode = xfrm.TransportMode })
	g.states(3, "192.0.2.1", 0x9, func(s *xfrm.State) { s.Proto, s.Algs = xfrm.Comp, xfrm.Algs{Comp: "deflate"} })
	for _, proto := range []xfrm.Proto{xfrm.IPIP, xfrm.IPv6in} {
		g.states(0, "192.0.2.1", 0xc0000201, func(s *xfrm.State) { s.Proto, s.Algs = proto, xfrm.Algs{} })
	}
	got := one(t, g)
	if !got.Comp || got.Mode != xfrm.TunnelMode || got.Remote != ip("192.0.2.1") || got.Optional || len(got.SAs) != 2 {
		t.Errorf("got %+v", got)
	}
	if ignored := xfrm.Tunnels(g.Snapshot).Ignored; len(ignored) != 0 {
		t.Errorf("parts of the bundle were listed as ignored: %+v", ignored)
	}
}

func TestTunnelTransport(t *testing.T) {
	var g gate
	open := []xfrm.Template{{Family: xfrm.IPv4, Src: ip("0.0.0.0"), Dst: ip("0.0.0.0"), Proto: xfrm.ESP, Mode: xfrm.TransportMode, Reqid: 4}}
	g.pair("192.0.2.2/32", "192.0.2.1/32", open, open, func(p *xfrm.Policy) { p.Selector.Proto = xfrm.GRE })
	g.states(4, "192.0.2.1", 0x100, func(s *xfrm.State) { s.Mode = xfrm.TransportMode })
	got := one(t, g)
	if got.Mode != xfrm.TransportMode || got.Local != ip("192.0.2.2") || got.Remote != ip("192.0.2.1") || len(got.SAs) != 2 || got.Pairs[0].Proto != xfrm.GRE {
		t.Errorf("got %+v", got)
	}
}

func TestTunnelDown(t *testing.T) {
	var g gate
	g.site(1, "192.0.2.1", "10.2.0.0/24", "10.1.0.0/24")
	if one(t, g).Up() {
		t.Error("a trap without a state is up")
	}
	g.States = append(g.States, xfrm.State{Family: xfrm.IPv4, Src: ip("192.0.2.1"), Dst: ip("192.0.2.2"), Proto: xfrm.ESP, Reqid: 1, Mode: xfrm.TunnelMode})
	if one(t, g).Up() {
		t.Error("an acquire made it up")
	}
	g.states(1, "192.0.2.1", 0x100, nil)
	if !one(t, g).Up() {
		t.Error("with states it is down")
	}
	g.States = slices.DeleteFunc(g.States, func(s xfrm.State) bool { return s.Dst == ip("192.0.2.2") })
	if one(t, g).Up() {
		t.Error("without an inbound state it is up")
	}
}

// The name survives changes after which an administrator would call it the same tunnel.
func TestTunnelID(t *testing.T) {
	id := func(reqid uint32, peer, remote string) string {
		var g gate
		g.site(reqid, peer, "10.2.0.0/24", remote)
		return one(t, g).ID
	}
	if a, b := id(1, "192.0.2.1", "10.1.0.0/24"), id(7, "198.51.100.9", "10.1.0.0/24"); a != b {
		t.Errorf("another reqid and address: %s became %s", a, b)
	}
	if a, b := id(1, "192.0.2.1", "10.1.0.0/24"), id(1, "192.0.2.1", "10.1.0.0/25"); a == b {
		t.Error("two networks have one name")
	}
	var g gate
	g.site(1, "192.0.2.1", "10.2.0.0/24", "10.1.0.0/24")
	g.site(2, "192.0.2.9", "10.2.0.0/24", "10.1.0.0/24")
	set := xfrm.Tunnels(g.Snapshot)
	if len(set.Tunnels) != 2 || set.Tunnels[0].ID == set.Tunnels[1].ID {
		t.Errorf("two tunnels for one pair: %+v", set.Tunnels)
	}
}

func TestExceptionsAreInPolicyOrder(t *testing.T) {
	var g gate
	add := func(priority uint32, action xfrm.Action, src string) {
		g.Policies = append(g.Policies, xfrm.Policy{Dir: xfrm.Out, Priority: priority, Action: action,
			Selector: xfrm.Selector{Family: xfrm.IPv4, Src: pfx(src), Dst: pfx("10.0.0.0/8")}})
	}
	add(300, xfrm.Block, "10.3.0.0/16")
	add(100, xfrm.Allow, "10.1.0.0/16")
	add(200, xfrm.Allow, "10.2.0.0/16")
	var got []string
	for _, e := range xfrm.Tunnels(g.Snapshot).Exceptions {
		got = append(got, e.Pair.Local.String()+" "+e.Action.String())
	}
	if want := []string{"10.1.0.0/16 allow", "10.2.0.0/16 allow", "10.3.0.0/16 block"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestWhatBecomesNoTunnelIsListed(t *testing.T) {
	var g gate
	g.site(1, "192.0.2.1", "10.2.0.0/24", "10.1.0.0/24")
	g.states(9, "192.0.2.1", 0x100, nil)
	g.states(1, "198.51.100.7", 0x200, nil)
	g.states(1, "192.0.2.1", 0x300, func(s *xfrm.State) { s.IfID = 42 })
	g.states(1, "192.0.2.1", 0x400, func(s *xfrm.State) { s.Mode = xfrm.TransportMode })
	g.states(1, "192.0.2.1", 0x500, func(s *xfrm.State) { s.Algs = xfrm.Algs{} })
	policy := func(tune func(*xfrm.Policy)) {
		p := xfrm.Policy{Dir: xfrm.In, Selector: xfrm.Selector{Family: xfrm.IPv4, Src: pfx("10.5.0.0/24"), Dst: pfx("10.2.0.0/24")},
			Templates: []xfrm.Template{tmpl(1, "192.0.2.1", "192.0.2.2")}}
		tune(&p)
		g.Policies = append(g.Policies, p)
	}
	policy(func(p *xfrm.Policy) { p.Dir = xfrm.SocketOut })
	policy(func(p *xfrm.Policy) { p.Type = xfrm.Sub })
	policy(func(p *xfrm.Policy) { p.Templates[0].Proto = xfrm.Comp })
	policy(func(p *xfrm.Policy) { p.Action = 7 })
	policy(func(p *xfrm.Policy) {
		p.Selector = xfrm.Selector{Family: xfrm.IPv6, Src: pfx("::ffff:10.1.0.0/112"), Dst: pfx("fd00::/8")}
	})
	set := xfrm.Tunnels(g.Snapshot)
	if len(set.Tunnels) != 1 || len(set.Tunnels[0].SAs) != 0 {
		t.Errorf("tunnels %+v", set.Tunnels)
	}
	for _, want := range []string{"no policy asks for its reqid", "name other addresses", "another if_id", "another protocol or mode",
		"still negotiating", "own sockets", "sub-policies", "no ESP or AH template", "unknown action", "IPv4-mapped"} {
		if !slices.ContainsFunc(set.Ignored, func(i xfrm.Ignored) bool { return strings.Contains(i.Reason, want) && i.Object != "" }) {
			t.Errorf("nothing is ignored because: %s\n%+v", want, set.Ignored)
		}
	}
}

// TestIPTFS: policies and states of IP-TFS, which Linux has since 6.14, are a tunnel like any other. A state of its own
// mode alone serves it, as the kernel compares the modes (xfrm_state_ok).
func TestIPTFS(t *testing.T) {
	var g gate
	iptfs := func(x *xfrm.State) { x.Mode = xfrm.IPTFSMode }
	in, out := tmpl(11, "192.0.2.1", "192.0.2.2"), tmpl(11, "192.0.2.2", "192.0.2.1")
	in.Mode, out.Mode = xfrm.IPTFSMode, xfrm.IPTFSMode
	g.pair("10.2.0.0/24", "10.1.0.0/24", []xfrm.Template{in}, []xfrm.Template{out}, nil)
	g.states(11, "192.0.2.1", 0x1000, iptfs)
	g.states(11, "192.0.2.1", 0x2000, nil)
	tunnel := one(t, g)
	if tunnel.Mode != xfrm.IPTFSMode || len(tunnel.Pairs) != 1 || tunnel.Local != ip("192.0.2.2") || tunnel.Remote != ip("192.0.2.1") {
		t.Errorf("got %+v", tunnel)
	}
	if len(tunnel.SAs) != 2 || tunnel.SAs[0].Mode != xfrm.IPTFSMode || tunnel.SAs[1].Mode != xfrm.IPTFSMode {
		t.Errorf("served by %+v, want the two states of IPTFS", tunnel.SAs)
	}
	if ignored := xfrm.Tunnels(g.Snapshot).Ignored; len(ignored) != 2 || !strings.Contains(ignored[0].Reason, "another protocol or mode") {
		t.Errorf("ignored %+v, want the two states of tunnel mode", ignored)
	}
}
