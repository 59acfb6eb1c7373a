package peers

import (
	"net/netip"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// tunnel is a tunnel with an inbound and an outbound state, from where the peer
// of that number is.
func tunnel(id string, reqid uint32, outer int, remotes ...string) xfrm.Tunnel {
	local, remote := netip.MustParseAddr("192.0.2.2"), netip.AddrFrom4([4]byte{198, 51, 100, byte(outer)})
	t := xfrm.Tunnel{ID: id, Reqid: reqid, Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Local: local, Remote: remote}
	for _, r := range remotes {
		t.Pairs = append(t.Pairs, xfrm.Pair{Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix(r), Dirs: 7})
	}
	udp := xfrm.Encap{Type: 2, SPort: 4500, DPort: 4500}
	t.SAs = []xfrm.SA{
		{State: xfrm.State{Src: remote, Dst: local, Proto: xfrm.ESP, Reqid: reqid, Encap: udp}, Inbound: true},
		{State: xfrm.State{Src: local, Dst: remote, Proto: xfrm.ESP, Reqid: reqid, Encap: udp}},
	}
	return t
}

func at(when time.Duration) func(*Record) { return func(r *Record) { r.Time = int64(when) } }

func TestMatch(t *testing.T) {
	now := 24 * time.Hour
	one := of(t, 1, at(now))
	remote := func(p string) func(*Record) { return func(r *Record) { r.Remote = netip.MustParsePrefix(p) } }
	reqid := func(n uint32) func(*Record) { return func(r *Record) { r.Reqid = n } }
	later := at(now + time.Second)
	old := at(now - gone - time.Second)
	pluto := func(r *Record) { r.Daemon, r.Reqid = Libreswan, 16389 }
	tcp := func(port uint16) func(*Record) {
		return func(r *Record) { r.Proto, r.RemotePort = xfrm.TCP, Ports{port, port} }
	}
	ported := tunnel("a", 1, 1, "10.3.0.1/32")
	ported.Pairs[0].Proto, ported.Pairs[0].RemotePort = xfrm.TCP, xfrm.PortMatch{Port: 22, Mask: 0xffff}
	moved := tunnel("a", 1, 1, "10.3.0.1/32")
	moved.SAs[0].Src = netip.MustParseAddr("198.51.100.77")
	behindNAT := tunnel("a", 1, 1, "10.3.0.1/32")
	behindNAT.SAs[0].Encap.SPort = 1024
	tests := []struct {
		name    string
		tunnel  xfrm.Tunnel
		records []Record
		want    string // the identity, empty for not known
		several int
		stale   int
	}{
		{"the one", tunnel("a", 1, 1, "10.3.0.1/32"), []Record{one}, "peer1", 0, 0},
		{"missing", tunnel("a", 1, 1, "10.3.0.1/32"), nil, "", 0, 0},
		{"of another reqid", tunnel("a", 2, 1, "10.3.0.1/32"), []Record{one}, "", 0, 0},
		{"of another selector", tunnel("a", 1, 1, "10.3.0.2/32"), []Record{one}, "", 0, 0},
		{"of a wider selector", tunnel("a", 1, 1, "10.3.0.0/24"), []Record{one}, "", 0, 0},
		{"who moved since", tunnel("a", 1, 77, "10.3.0.1/32"), []Record{one}, "peer1", 0, 0},
		{"long gone", tunnel("a", 2, 1, "10.3.0.1/32"), []Record{of(t, 1, old)}, "", 0, 1},
		{"old, and there", tunnel("a", 1, 1, "10.3.0.1/32"), []Record{of(t, 1, old)}, "peer1", 0, 0},
		{"of one of two selectors", tunnel("a", 1, 1, "10.3.0.1/32", "10.3.0.9/32"), []Record{one}, "", 0, 0},
		{"of both selectors", tunnel("a", 1, 1, "10.3.0.1/32", "10.3.0.9/32"), []Record{one, of(t, 1, at(now), remote("10.3.0.9/32"))}, "peer1", 0, 0},
		{"two peers in one", tunnel("a", 1, 1, "10.3.0.1/32", "10.3.0.2/32"),
			[]Record{one, of(t, 2, later, reqid(1))}, "", 2, 0},
		{"two peers in one, behind one NAT", behindNAT, []Record{of(t, 1, later), of(t, 2, at(now), reqid(1), remote("10.3.0.1/32"))}, "", 2, 0},
		{"one after another, the former's end was not told", tunnel("a", 1, 1, "10.3.0.1/32"),
			[]Record{of(t, 1, later), of(t, 2, at(now), reqid(1), remote("10.3.0.1/32"))}, "peer1", 0, 1},
		{"one after another, the former still has a state", moved,
			[]Record{of(t, 1, later), of(t, 2, at(now), reqid(1), remote("10.3.0.1/32"))}, "", 2, 0},
		{"of libreswan", tunnel("a", 16390, 1, "10.3.0.1/32"), []Record{of(t, 1, at(now), pluto)}, "peer1", 0, 0},
		{"of libreswan's next", tunnel("a", 16393, 1, "10.3.0.1/32"), []Record{of(t, 1, at(now), pluto)}, "", 0, 0},
		{"of a port", ported, []Record{of(t, 1, at(now), tcp(22))}, "peer1", 0, 0},
		{"of another port", ported, []Record{of(t, 1, at(now), tcp(80))}, "", 0, 0},
		{"of all protocols", ported, []Record{one}, "", 0, 0},
	}
	for _, test := range tests {
		got := Match(test.records, xfrm.Set{Tunnels: []xfrm.Tunnel{test.tunnel}}, now)
		p, known := got.Peers["a"]
		if p.Identity != test.want || known != (test.want != "") || len(got.Several["a"]) != test.several || len(got.Stale) != test.stale {
			t.Errorf("%s: %+v, want %q, %d that can't be told apart, %d stale", test.name, got, test.want, test.several, test.stale)
		}
	}
}

func TestManyRoadWarriors(t *testing.T) {
	var set xfrm.Set
	var records []Record
	now := 24 * time.Hour
	for n := 1; n <= 200; n++ {
		r := of(t, n, at(now))
		// All of them have the connection's own reqid, and addresses of their own.
		r.Reqid = 5
		records = append(records, r)
		set.Tunnels = append(set.Tunnels, tunnel(r.PeerID, 5, n, r.Remote.String()))
	}
	got := Match(records, set, now)
	for _, r := range records {
		if p := got.Peers[r.PeerID]; p.PeerID != r.PeerID || p.Connection != "rw" || len(p.VirtualIPs) != 2 {
			t.Errorf("%s is %+v", r.PeerID, p)
		}
	}
}
