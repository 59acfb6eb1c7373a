package firewall

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
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
		{"gcm", gcm, xfrm.TunnelMode, false, moonWAN, xfrm.IPv4, 1500, 1406},
		// 1500-20-8-8-8-16 = 1440; -2 -40
		{"gcm behind NAT", gcm, xfrm.TunnelMode, true, moonWAN, xfrm.IPv4, 1500, 1398},
		// 1500-20-8-16-16 = 1440 = 90*16; -2 -40
		{"cbc", cbc, xfrm.TunnelMode, false, moonWAN, xfrm.IPv4, 1500, 1398},
		// 1492-20-8-16-16 = 1432 -> 89*16 = 1424; -2 -40
		{"cbc over PPPoE", cbc, xfrm.TunnelMode, false, moonWAN, xfrm.IPv4, 1492, 1382},
		// 1500-40-8-8-16 = 1428; -2 -40 -20
		{"gcm, v6 in v6", gcm, xfrm.TunnelMode, false, moon6WAN, xfrm.IPv6, 1500, 1366},
		// 1500-20-8-8-16 = 1448; -2 -20
		{"gcm, transport", gcm, xfrm.TransportMode, false, moonWAN, xfrm.IPv4, 1500, 1426},
	} {
		host := sunHost()
		host.Links[1].MTU = tc.mtu
		host.Routes = append(host.Routes, xfrm.Route{Dst: prefix.Single(addr(moon6WAN)), Link: 2})
		peer := addr(tc.outer)
		sa := xfrm.SA{State: xfrm.State{Family: xfrm.FamilyOf(peer), Proto: xfrm.ESP, Mode: tc.mode, Algs: tc.algs}}
		if tc.encap {
			sa.Encap = xfrm.Encap{Type: 2, SPort: 4500, DPort: 4500}
		}
		tunnel := xfrm.Tunnel{Mode: tc.mode, Remote: peer, SAs: []xfrm.SA{sa}}
		if got := segmentSize(&tunnel, host, tc.inner); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
	if got := segmentSize(&xfrm.Tunnel{}, sunHost(), xfrm.IPv4); got != 0 {
		t.Errorf("a tunnel that is down: %d", got)
	}
}

func TestMSSBothWays(t *testing.T) {
	w := restricted(t, sunHost(), TunnelConfig{MSS: MSS{Size: 1360}}, sunSite())
	if got := w.arrive(tagged(from(1, "10.1.0.10", "10.2.0.10")), nil); !got.met(rules.PurposeMSS) || got.final != rules.Accept {
		t.Error("not lowered on the way in")
	}
	out := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", Proto: xfrm.TCP,
		OutBundle: []trace.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}}}
	if got := w.forward(out); !got.met(rules.PurposeMSS) {
		t.Error("not lowered on the way out")
	}
	w = compileWorld(t, snapshotOf(sunHost(), sunSite()), Config{})
	if got := w.forward(out); got.met(rules.PurposeMSS) {
		t.Error("lowered, though nobody asked for it")
	}
}
