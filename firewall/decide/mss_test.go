package decide

import (
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The sizes here are counted by hand from the packet formats.
func TestSegmentSize(t *testing.T) {
	gcm := xfrm.Algs{AEAD: "rfc4106(gcm(aes))", ICVBits: 128}
	cbc := xfrm.Algs{Crypt: "cbc(aes)", Auth: "hmac(sha256)", ICVBits: 128}
	for _, tc := range []struct {
		name  string
		algs  xfrm.Algs
		mode  xfrm.Mode
		encap bool
		outer string
		inner xfrm.Family
		mtu   int
		want  uint16
	}{
		// 1500-20-8-8-16 = 1448 = 362*4; -2 trailer = 1446; -20 -20
		{"gcm", gcm, xfrm.TunnelMode, false, "192.0.2.1", xfrm.IPv4, 1500, 1406},
		// 1500-20-8-8-8-16 = 1440; -2 -40
		{"gcm behind NAT", gcm, xfrm.TunnelMode, true, "192.0.2.1", xfrm.IPv4, 1500, 1398},
		// 1500-20-8-16-16 = 1440 = 90*16; -2 -40
		{"cbc", cbc, xfrm.TunnelMode, false, "192.0.2.1", xfrm.IPv4, 1500, 1398},
		// 1492-20-8-16-16 = 1432 -> 89*16 = 1424; -2 -40
		{"cbc over PPPoE", cbc, xfrm.TunnelMode, false, "192.0.2.1", xfrm.IPv4, 1492, 1382},
		// 1500-40-8-8-16 = 1428; -2 -40 -20
		{"gcm, v6 in v6", gcm, xfrm.TunnelMode, false, "2001:db8:ffff::1", xfrm.IPv6, 1500, 1366},
		// 1500-20-8-8-16 = 1448; -2 -20
		{"gcm, transport", gcm, xfrm.TransportMode, false, "192.0.2.1", xfrm.IPv4, 1500, 1426},
	} {
		host := uplinkHost()
		host.Links[1].MTU = tc.mtu
		host.Routes = append(host.Routes, xfrm.Route{Dst: prefix.Single(netip.MustParseAddr("2001:db8:ffff::1")), Link: 2})
		peer := netip.MustParseAddr(tc.outer)
		sa := xfrm.SA{State: xfrm.State{Family: xfrm.FamilyOf(peer), Proto: xfrm.ESP, Mode: tc.mode, Algs: tc.algs}}
		if tc.encap {
			sa.Encap = xfrm.Encap{Type: 2, SPort: 4500, DPort: 4500}
		}
		tunnel := xfrm.Tunnel{Mode: tc.mode, Remote: peer, SAs: []xfrm.SA{sa}}
		if got := segmentSize(&tunnel, device.NewIndex(host), tc.inner); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
	if got := segmentSize(&xfrm.Tunnel{}, device.NewIndex(uplinkHost()), xfrm.IPv4); got != 0 {
		t.Errorf("a tunnel that is down: %d", got)
	}
}

// uplinkHost is a host with a default route by eth0.
func uplinkHost() xfrm.Host {
	return xfrm.Host{
		Links:  []xfrm.Link{{Index: 1, Name: "lo"}, {Index: 2, Name: "eth0", Up: true}, {Index: 3, Name: "eth1", Up: true}},
		Routes: []xfrm.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: 2}},
	}
}
