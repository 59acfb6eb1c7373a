package sample

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Sun is the gateway of most tests, with an uplink and a LAN.
func Sun() xfrm.Host {
	p := netip.MustParsePrefix
	return xfrm.Host{
		Links: []xfrm.Link{{Index: 1, Name: "lo", Up: true}, {Index: 2, Name: "eth0", Up: true}, {Index: 3, Name: "eth1", Up: true}},
		Addresses: []xfrm.Address{
			{Link: 2, Prefix: p("192.0.2.2/24")}, {Link: 3, Prefix: p("10.2.0.1/24")},
			{Link: 2, Prefix: p("2001:db8:ffff::2/64")}, {Link: 3, Prefix: p("fd00:2::1/64")},
		},
		Routes: []xfrm.Route{
			{Dst: p("192.0.2.0/24"), Link: 2, Connected: true}, {Dst: p("10.2.0.0/24"), Link: 3, Connected: true},
			{Dst: p("0.0.0.0/0"), Link: 2, Via: netip.MustParseAddr("192.0.2.254")},
		},
	}
}

// Moon is the tunnel from Sun's LAN to moon's.
func Moon() Site {
	return Site{Reqid: 1, Local: "192.0.2.2", Remote: "192.0.2.1", Pairs: [][2]string{{"10.2.0.0/24", "10.1.0.0/24"}}}
}
