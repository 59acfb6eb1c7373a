package kernel

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink/nl"
)

func TestParseL2TP(t *testing.T) {
	u16 := func(v uint16) []byte { return nl.Uint16Attr(v) }
	u32 := func(v uint32) []byte { return nl.Uint32Attr(v) }
	message := func(attributes map[int][]byte) []byte {
		m := []byte{l2tpTunnelGet, 1, 0, 0}
		for kind, value := range attributes {
			m = append(m, nl.NewRtAttr(kind, value).Serialize()...)
		}
		return m
	}
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for name, test := range map[string]struct {
		message []byte
		want    l2tpTunnel
	}{
		"udp": {message(map[int][]byte{l2tpConnID: u32(7), l2tpEncapType: u16(0), l2tpSAddr: v4.AsSlice(), l2tpDAddr: v4.AsSlice(), l2tpSPort: u16(1701), l2tpDPort: u16(1702)}),
			l2tpTunnel{v4, v4, 1701}},
		"ip over IPv6": {message(map[int][]byte{l2tpConnID: u32(7), l2tpEncapType: u16(1), l2tpSAddr6: v6.AsSlice(), l2tpDAddr6: v6.AsSlice()}), l2tpTunnel{v6, v6, 0}},
		"short values": {message(map[int][]byte{l2tpConnID: u32(7), l2tpSAddr: {1}, l2tpDAddr: {1, 2}, l2tpSPort: {1}}), l2tpTunnel{}},
	} {
		a := parseL2TP(test.message)
		if a == nil || a.u32(l2tpConnID) != 7 || a.tunnel() != test.want {
			t.Errorf("%s: %+v, want %+v", name, a.tunnel(), test.want)
		}
	}
	for _, cut := range [][]byte{nil, {1}, {l2tpTunnelGet, 1, 0, 0, 3, 0}} {
		if a := parseL2TP(cut); len(a) != 0 {
			t.Errorf("%v is read as %v", cut, a)
		}
	}
}
