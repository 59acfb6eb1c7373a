package compile

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// roadWarriors are two peers of one connection, each with a virtual address.
func roadWarriors() []sample.Site {
	return []sample.Site{
		{Reqid: 1, Local: sunWAN, Remote: "198.51.100.1", Pairs: [][2]string{{"10.2.0.0/24", "10.3.0.1/32"}}},
		{Reqid: 2, Local: sunWAN, Remote: "198.51.100.2", Pairs: [][2]string{{"10.2.0.0/24", "10.3.0.2/32"}}},
	}
}

// TestIdentityDecides sends packets of two peers, and compares the services of each by
// its identity with those while the identity is not known.
func TestIdentityDecides(t *testing.T) {
	s := snapshotOf(sunHost(), roadWarriors()...)
	ids := make(map[uint32]string)
	for _, tunnel := range xfrm.Tunnels(s).Tunnels {
		ids[tunnel.Reqid] = tunnel.ID
	}
	entry := func(connection, identity string, ports ...uint16) firewall.TunnelConfig {
		tc := firewall.TunnelConfig{Match: firewall.Match{Connection: connection, Identity: identity}, In: []firewall.Service{}}
		for _, p := range ports {
			tc.In = append(tc.In, firewall.Service{Proto: xfrm.TCP, Ports: firewall.Port(p)})
		}
		return tc
	}
	unrestricted := func(connection, identity string) firewall.TunnelConfig {
		return firewall.TunnelConfig{Match: firewall.Match{Connection: connection, Identity: identity}}
	}
	pool := firewall.TunnelConfig{Match: firewall.Match{Remote: netip.MustParsePrefix("10.3.0.0/24")}, In: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(80)}}}
	alice, bob := firewall.Peer{Connection: "rw", Identity: "alice"}, firewall.Peer{Connection: "rw", Identity: "bob"}
	tests := []struct {
		name    string
		entries []firewall.TunnelConfig
		peer    firewall.Peer // of the tunnel with reqid 1
		open    []uint16
	}{
		{"known", []firewall.TunnelConfig{entry("", "alice", 22)}, alice, []uint16{22}},
		{"another", []firewall.TunnelConfig{entry("", "alice", 22)}, bob, []uint16{22, 80, 443}},
		{"by connection", []firewall.TunnelConfig{entry("rw", "", 443)}, bob, []uint16{443}},
		{"of another connection", []firewall.TunnelConfig{entry("rw", "alice", 443)}, firewall.Peer{Connection: "office", Identity: "alice"}, []uint16{22, 80, 443}},
		{"not known, no other entry", []firewall.TunnelConfig{entry("", "alice", 22)}, firewall.Peer{}, []uint16{22}},
		{"not known, two may hold", []firewall.TunnelConfig{entry("", "alice", 22, 80), entry("", "bob", 80, 443)}, firewall.Peer{}, []uint16{80}},
		{"not known, nothing in common", []firewall.TunnelConfig{entry("", "alice", 22), entry("", "bob", 443)}, firewall.Peer{}, nil},
		{"not known, the administrator's may do all", []firewall.TunnelConfig{unrestricted("", "admin"), pool}, firewall.Peer{}, []uint16{80}},
		{"the administrator", []firewall.TunnelConfig{unrestricted("", "admin"), pool}, firewall.Peer{Connection: "rw", Identity: "admin"}, []uint16{22, 80, 443}},
		{"not known, an entry before decides", []firewall.TunnelConfig{pool, entry("", "alice", 22)}, firewall.Peer{}, []uint16{80}},
		{"identity not known, of another connection", []firewall.TunnelConfig{entry("office", "alice", 22)}, firewall.Peer{Connection: "rw"}, []uint16{22, 80, 443}},
		{"identity not known, of this connection", []firewall.TunnelConfig{entry("rw", "alice", 22)}, firewall.Peer{Connection: "rw"}, []uint16{22}},
	}
	for _, test := range tests {
		w := compileInput(t, s, firewall.Input{
			Config: firewall.Config{Tunnels: test.entries},
			Peers:  map[string]firewall.Peer{ids[1]: test.peer, ids[2]: {Connection: "rw", Identity: "carol"}},
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
		warned := slices.ContainsFunc(w.result.Warnings, func(text string) bool { return strings.Contains(text, "has not named its peer") })
		if held := unknown && len(open) < 3 && !strings.Contains(test.name, "an entry before"); warned != held {
			t.Errorf("%s: warnings are %q", test.name, w.result.Warnings)
		}
	}
}

// TestUnknownPeerKeepsToAllCaps has two entries cap an unknown peer to networks
// that have nothing in common: it may claim nothing, which must not come out as
// no cap at all.
func TestUnknownPeerKeepsToAllCaps(t *testing.T) {
	wide := sample.Site{Reqid: 1, Local: sunWAN, Remote: "198.51.100.1", Pairs: [][2]string{{"10.2.0.0/24", "10.0.0.0/8"}}}
	s := snapshotOf(sunHost(), wide)
	capped := func(identity, limit string) firewall.TunnelConfig {
		return firewall.TunnelConfig{Match: firewall.Match{Identity: identity}, Remote: []netip.Prefix{netip.MustParsePrefix(limit)}}
	}
	for _, test := range []struct {
		second string
		want   map[string]rules.Verb
	}{
		{"10.9.0.0/16", map[string]rules.Verb{"10.8.0.1": rules.Drop, "10.9.0.1": rules.Drop, "10.7.0.1": rules.Drop}},
		{"10.8.0.0/24", map[string]rules.Verb{"10.8.0.1": rules.Accept, "10.8.1.1": rules.Drop}},
	} {
		w := compileInput(t, s, firewall.Input{Config: firewall.Config{Tunnels: []firewall.TunnelConfig{capped("alice", "10.8.0.0/16"), capped("bob", test.second)}}})
		for src, want := range test.want {
			p := tagged(from(1, src, "10.2.0.10"))
			p.Out = "eth1"
			if got := w.arrive(p, nil); got.final != want {
				t.Errorf("caps 10.8.0.0/16 and %s, from %s: verdict %s, want %s", test.second, src, got.final, want)
			}
		}
	}
}
