package limit

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// network is one of its own for each number.
func network(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 13), byte(i >> 5), byte(i << 3)}), 29)
}

// tunnel is one of a peer with pairs from a number on, the youngest first in its list.
func tunnel(id, peer string, from, pairs int) xfrm.Tunnel {
	t := xfrm.Tunnel{ID: id, Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr(peer), SAs: []xfrm.SA{{Inbound: true}}}
	for i := range pairs {
		t.Pairs = append(t.Pairs, xfrm.Pair{Local: netip.MustParsePrefix("10.1.0.0/16"), Remote: network(from + i), Index: uint32(from + pairs - i)})
	}
	return t
}

func counts(set xfrm.Set) []int {
	var n []int
	for _, t := range set.Tunnels {
		n = append(n, len(t.Pairs))
	}
	return n
}

func TestPairs(t *testing.T) {
	var many []xfrm.Tunnel
	for i := range 5 {
		many = append(many, tunnel(fmt.Sprint("many", i), fmt.Sprintf("198.51.%d.1", i), 20000*i, PairsByPeer))
	}
	wide := tunnel("wide", "198.51.100.1", 0, PairsByPeer/2)
	for i := range wide.Pairs {
		wide.Pairs[i].Remote = netip.MustParsePrefix("10.0.0.0/8")
	}
	for _, tt := range []struct {
		name    string
		tunnels []xfrm.Tunnel
		host    xfrm.Host
		want    []int
		reached []string
	}{
		{name: "all have room", tunnels: many[:2], want: []int{PairsByPeer, PairsByPeer}},
		{
			name:    "a peer that makes many has no room, and others have",
			tunnels: []xfrm.Tunnel{tunnel("first", "198.51.100.1", 0, PairsByPeer-1), tunnel("second", "198.51.100.1", 20000, 10), tunnel("honest", "198.51.100.2", 40000, 10)},
			want:    []int{PairsByPeer - 1, 1, 10}, reached: []string{"pairs of peer 198.51.100.1"},
		},
		{
			name:    "an older pair keeps its rules, in whichever order the tunnels are",
			tunnels: []xfrm.Tunnel{tunnel("second", "198.51.100.1", 20000, PairsByPeer+100), tunnel("honest", "198.51.100.1", 0, 10)},
			want:    []int{PairsByPeer - 10, 10}, reached: []string{"pairs of peer 198.51.100.1"},
		},
		{
			name:    "all addresses of a /64 are one peer's",
			tunnels: []xfrm.Tunnel{tunnel("a", "2001:db8::1", 0, PairsByPeer), tunnel("b", "2001:db8::2", 20000, 1), tunnel("c", "2001:db8:0:1::1", 40000, 1)},
			want:    []int{PairsByPeer, 0, 1}, reached: []string{"pairs of peer 2001:db8::/64"},
		},
		{
			name: "a network is bounded too",
			tunnels: func() (all []xfrm.Tunnel) {
				for i := range 3 {
					all = append(all, tunnel(fmt.Sprint("t", i), fmt.Sprintf("198.51.100.%d", i+1), 20000*i, PairsByPeer))
				}
				return append(all, tunnel("other", "203.0.113.1", 80000, 5))
			}(),
			want: []int{PairsByPeer, PairsByPeer, 0, 5}, reached: []string{"pairs of peers in 198.51.100.0/24"},
		},
		{
			name: "a pair counts for each connected network in its remote selector", tunnels: []xfrm.Tunnel{wide},
			host: xfrm.Host{Addresses: []xfrm.Address{
				{Link: 1, Prefix: netip.MustParsePrefix("10.1.0.1/24")}, {Link: 2, Prefix: netip.MustParsePrefix("10.2.0.1/24")},
				{Link: 3, Prefix: netip.MustParsePrefix("10.3.0.1/24")}, {Link: 3, Prefix: netip.MustParsePrefix("10.3.0.2/24")},
			}},
			want: []int{PairsByPeer / 4}, reached: []string{"pairs of peer 198.51.100.1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := xfrm.Set{Tunnels: tt.tunnels}
			before := counts(in)
			set, _, reached := Apply(in, tt.host)
			if diff := cmp.Diff(tt.want, counts(set)); diff != "" {
				t.Errorf("pairs left (-want +got):\n%s", diff)
			}
			var objects []string
			for _, e := range reached {
				objects = append(objects, e.Object)
				if e.Count <= e.Most {
					t.Errorf("%v is no excess", e)
				}
			}
			if diff := cmp.Diff(tt.reached, objects); diff != "" {
				t.Errorf("limits reached (-want +got):\n%s", diff)
			}
			for i, tunnel := range set.Tunnels {
				if len(tunnel.Pairs) == 0 && len(tunnel.SAs) > 0 {
					t.Errorf("tunnel %d has SAs and no pair", i)
				}
			}
			if diff := cmp.Diff(before, counts(in)); diff != "" {
				t.Errorf("the input was changed:\n%s", diff)
			}
		})
	}
}

func TestExceptions(t *testing.T) {
	var set xfrm.Set
	for i := range Exceptions + 10 {
		set.Exceptions = append(set.Exceptions, xfrm.Exception{Pair: xfrm.Pair{Remote: network(i), Index: uint32(Exceptions + 10 - i)}})
	}
	got, _, reached := Apply(set, xfrm.Host{})
	if len(got.Exceptions) != Exceptions || len(reached) != 1 || reached[0].Count != Exceptions+10 {
		t.Fatalf("%d exceptions, reached %v", len(got.Exceptions), reached)
	}
	// The oldest ten are the last of the list.
	if diff := cmp.Diff(set.Exceptions[10:], got.Exceptions, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("not the oldest, in their order:\n%s", diff)
	}
}

func TestRoutes(t *testing.T) {
	host := xfrm.Host{Links: []xfrm.Link{{Index: 1, Name: "eth0"}, {Index: 2, Name: "ipsec0", Kind: "xfrm"}, {Index: 3, Name: "vti1", Kind: "vti"}}}
	for i := range 2 * RoutesByDevice {
		host.Routes = append(host.Routes, xfrm.Route{Dst: network(i), Link: 1}, xfrm.Route{Dst: network(i), Link: 2})
	}
	connected := xfrm.Route{Dst: netip.MustParsePrefix("192.0.2.0/30"), Link: 2, Connected: true}
	host.Routes = append(host.Routes, connected, xfrm.Route{Dst: network(0), Link: 3})
	_, got, reached := Apply(xfrm.Set{}, host)
	into := make(map[int32]int)
	for _, r := range got.Routes {
		into[r.Link]++
	}
	if diff := cmp.Diff(map[int32]int{1: 2 * RoutesByDevice, 2: RoutesByDevice, 3: 1}, into); diff != "" {
		t.Errorf("routes left by link (-want +got):\n%s", diff)
	}
	if !slices.Contains(got.Routes, connected) {
		t.Error("the connected network is beyond the limit")
	}
	if len(reached) != 1 || reached[0].Object != "routes into ipsec0" {
		t.Errorf("reached %v", reached)
	}
}
