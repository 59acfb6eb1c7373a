package firewall

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// roadWarriors are two peers of one connection, each with a virtual address.
func roadWarriors() []site {
	return []site{
		{reqid: 1, local: sunWAN, remote: "198.51.100.1", mode: xfrm.TunnelMode, pairs: [][2]string{{"10.2.0.0/24", "10.3.0.1/32"}}},
		{reqid: 2, local: sunWAN, remote: "198.51.100.2", mode: xfrm.TunnelMode, pairs: [][2]string{{"10.2.0.0/24", "10.3.0.2/32"}}},
	}
}

// TestIdentityDecides sends packets of two peers, and looks at what each may do
// by who it is, and what while that is not known.
func TestIdentityDecides(t *testing.T) {
	s := snapshotOf(sunHost(), roadWarriors()...)
	ids := make(map[uint32]string)
	for _, tunnel := range xfrm.Tunnels(s).Tunnels {
		ids[tunnel.Reqid] = tunnel.ID
	}
	entry := func(connection, identity string, ports ...uint16) TunnelConfig {
		tc := TunnelConfig{Match: Match{Connection: connection, Identity: identity}, In: []Service{}}
		for _, p := range ports {
			tc.In = append(tc.In, Service{xfrm.TCP, rules.Port(p)})
		}
		return tc
	}
	unrestricted := func(connection, identity string) TunnelConfig {
		return TunnelConfig{Match: Match{Connection: connection, Identity: identity}}
	}
	pool := TunnelConfig{Match: Match{Remote: netip.MustParsePrefix("10.3.0.0/24")}, In: []Service{{xfrm.TCP, rules.Port(80)}}}
	alice, bob := Peer{"rw", "alice"}, Peer{"rw", "bob"}
	tests := []struct {
		name    string
		entries []TunnelConfig
		peer    Peer // of the tunnel with reqid 1
		open    []uint16
	}{
		{"known", []TunnelConfig{entry("", "alice", 22)}, alice, []uint16{22}},
		{"another", []TunnelConfig{entry("", "alice", 22)}, bob, []uint16{22, 80, 443}},
		{"by connection", []TunnelConfig{entry("rw", "", 443)}, bob, []uint16{443}},
		{"of another connection", []TunnelConfig{entry("rw", "alice", 443)}, Peer{"office", "alice"}, []uint16{22, 80, 443}},
		{"not known, no other entry", []TunnelConfig{entry("", "alice", 22)}, Peer{}, []uint16{22}},
		{"not known, two may hold", []TunnelConfig{entry("", "alice", 22, 80), entry("", "bob", 80, 443)}, Peer{}, []uint16{80}},
		{"not known, nothing in common", []TunnelConfig{entry("", "alice", 22), entry("", "bob", 443)}, Peer{}, nil},
		{"not known, the administrator's may do all", []TunnelConfig{unrestricted("", "admin"), pool}, Peer{}, []uint16{80}},
		{"the administrator", []TunnelConfig{unrestricted("", "admin"), pool}, Peer{"rw", "admin"}, []uint16{22, 80, 443}},
		{"not known, an entry before decides", []TunnelConfig{pool, entry("", "alice", 22)}, Peer{}, []uint16{80}},
		{"identity not known, of another connection", []TunnelConfig{entry("office", "alice", 22)}, Peer{Connection: "rw"}, []uint16{22, 80, 443}},
		{"identity not known, of this connection", []TunnelConfig{entry("rw", "alice", 22)}, Peer{Connection: "rw"}, []uint16{22}},
	}
	for _, test := range tests {
		w := compileInput(t, s, Input{
			Config: Config{Tunnels: test.entries},
			Peers:  map[string]Peer{ids[1]: test.peer, ids[2]: {"rw", "carol"}},
		})
		var open []uint16
		for _, port := range []uint16{22, 80, 443} {
			p := tagged(from(1, "10.3.0.1", "10.2.0.10"))
			p.Proto, p.DPort, p.Out = xfrm.TCP, port, "eth1"
			if w.arrive(p, nil).final == rules.Accept {
				open = append(open, port)
			}
		}
		if !slices.Equal(open, test.open) {
			t.Errorf("%s: open is %v, want %v", test.name, open, test.open)
		}
		unknown := test.peer.Connection == "" || test.peer.Identity == ""
		warned := slices.ContainsFunc(w.result.Warnings, func(text string) bool { return strings.Contains(text, "did not say who its peer is") })
		if held := unknown && len(open) < 3 && !strings.Contains(test.name, "an entry before"); warned != held {
			t.Errorf("%s: warnings are %q", test.name, w.result.Warnings)
		}
	}
}

// TestUnknownPeerKeepsToAllCaps has two entries cap an unknown peer to networks
// that have nothing in common: it may claim nothing, which must not come out as
// no cap at all.
func TestUnknownPeerKeepsToAllCaps(t *testing.T) {
	wide := site{reqid: 1, local: sunWAN, remote: "198.51.100.1", mode: xfrm.TunnelMode, pairs: [][2]string{{"10.2.0.0/24", "10.0.0.0/8"}}}
	s := snapshotOf(sunHost(), wide)
	capped := func(identity, limit string) TunnelConfig {
		return TunnelConfig{Match: Match{Identity: identity}, Remote: []netip.Prefix{netip.MustParsePrefix(limit)}}
	}
	for _, test := range []struct {
		second string
		want   map[string]rules.Verb
	}{
		{"10.9.0.0/16", map[string]rules.Verb{"10.8.0.1": rules.Drop, "10.9.0.1": rules.Drop, "10.7.0.1": rules.Drop}},
		{"10.8.0.0/24", map[string]rules.Verb{"10.8.0.1": rules.Accept, "10.8.1.1": rules.Drop}},
	} {
		w := compileInput(t, s, Input{Config: Config{Tunnels: []TunnelConfig{capped("alice", "10.8.0.0/16"), capped("bob", test.second)}}})
		for src, want := range test.want {
			p := tagged(from(1, src, "10.2.0.10"))
			p.Out = "eth1"
			if got := w.arrive(p, nil); got.final != want {
				t.Errorf("caps 10.8.0.0/16 and %s, from %s: verdict %s, want %s", test.second, src, got.final, want)
			}
		}
	}
}

func TestNarrower(t *testing.T) {
	range5 := Service{xfrm.UDP, rules.Ports{Lo: 5000, Hi: 5010}}
	for _, test := range []struct{ a, b, want []Service }{
		{nil, nil, nil},
		{nil, []Service{range5}, []Service{range5}},
		{[]Service{}, nil, []Service{}},
		{[]Service{range5}, []Service{{xfrm.UDP, rules.Ports{Lo: 5008, Hi: 6000}}}, []Service{{xfrm.UDP, rules.Ports{Lo: 5008, Hi: 5010}}}},
		{[]Service{range5}, []Service{{Proto: xfrm.UDP}}, []Service{range5}},
		{[]Service{range5}, []Service{{xfrm.TCP, rules.Ports{Lo: 5000, Hi: 5010}}}, []Service{}},
		{[]Service{{Proto: xfrm.ICMP}, range5}, []Service{{Proto: xfrm.ICMP}}, []Service{{Proto: xfrm.ICMP}}},
	} {
		for _, pair := range [][2][]Service{{test.a, test.b}, {test.b, test.a}} {
			got := commonServices(pair[0], pair[1])
			if !slices.Equal(got, test.want) || (got == nil) != (test.want == nil) {
				t.Errorf("what %v and %v allow is %v, want %v", pair[0], pair[1], got, test.want)
			}
		}
	}
	a := TunnelConfig{Name: "a", MSS: MSS{Size: 1400}, KeepNAT: true}
	b := TunnelConfig{MSS: MSS{Size: 1300}, KeepNAT: true}
	if got := narrower(a, b); got.MSS.Size != 1300 || !got.KeepNAT {
		t.Errorf("narrower: %+v", got)
	}
	if got := narrower(a, TunnelConfig{MSS: MSS{Auto: true}}); !got.MSS.Auto || got.KeepNAT {
		t.Errorf("narrower: %+v", got)
	}
}
