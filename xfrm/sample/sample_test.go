package sample

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// A snapshot is one that could be read from a kernel, and its sites are tunnels that are up.
func TestSnapshot(t *testing.T) {
	six := Site{Reqid: 2, Local: "2001:db8:ffff::2", Remote: "2001:db8:ffff::1", Pairs: [][2]string{{"fd00:2::/64", "fd00:1::/64"}, {"fd00:2::/64", "fd00:7::/64"}}, Rekeys: 1}
	host := Site{Reqid: 3, Local: "192.0.2.2", Remote: "192.0.2.3", Pairs: [][2]string{{"192.0.2.2/32", "192.0.2.3/32"}}, Transport: true, Proto: xfrm.UDP, Port: 1701}
	comp := Site{Reqid: 4, Local: "192.0.2.2", Remote: "192.0.2.4", Pairs: [][2]string{{"10.2.0.0/24", "10.4.0.0/24"}}, Comp: true}
	down := Site{Reqid: 5, Local: "192.0.2.2", Remote: "192.0.2.5", Pairs: [][2]string{{"10.2.0.0/24", "10.5.0.0/24"}}, Down: true}
	s := Snapshot(Sun(), Moon(), six, host, comp, down)
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	set := xfrm.Tunnels(s)
	if len(set.Tunnels) != 5 || len(set.Ignored) > 0 {
		t.Fatalf("%d tunnels, ignored %v", len(set.Tunnels), set.Ignored)
	}
	states := map[uint32]int{1: 2, 2: 4, 3: 2, 4: 2, 5: 0}
	for _, tunnel := range set.Tunnels {
		if tunnel.Up() != (tunnel.Reqid != 5) || len(tunnel.SAs) != states[tunnel.Reqid] {
			t.Errorf("tunnel %d: up %t, %d states", tunnel.Reqid, tunnel.Up(), len(tunnel.SAs))
		}
	}
}
