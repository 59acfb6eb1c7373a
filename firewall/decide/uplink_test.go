package decide

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// TestRoutesToTheInternet: an interface of a route to the internet is an uplink, where a guard
// of a network does not give way; a site's own addresses make no uplink, however wide.
func TestRoutesToTheInternet(t *testing.T) {
	p := netip.MustParsePrefix
	for _, tt := range []struct {
		route  string
		remote string
		uplink bool
	}{
		{"::/0", "2001:db8:1::/48", true},
		{"8000::/1", "2001:db8:1::/48", true},
		{"2000::/3", "2001:db8:1::/48", true}, // as tunnel brokers have it
		{"2001:db8::/32", "2001:db8:1::/48", false},
		{"fc00::/7", "fd00:1::/48", false},
		{"0.0.0.0/1", "10.1.0.0/24", true},
		{"0.0.0.0/2", "10.1.0.0/24", true},
		{"10.0.0.0/8", "10.1.0.0/24", false},
	} {
		remote := p(tt.remote)
		local := map[bool]netip.Prefix{true: p("10.2.0.0/24"), false: p("2001:db8:2::/64")}[remote.Addr().Is4()]
		in := firewall.Input{
			Host: xfrm.Host{
				Links:  []xfrm.Link{{Index: 1, Name: "lo"}, {Index: 2, Name: "eth0"}, {Index: 3, Name: "eth1"}, {Index: 4, Name: "line0"}},
				Routes: []xfrm.Route{{Dst: p("0.0.0.0/0"), Link: 2}, {Dst: p("::/0"), Link: 2}, {Dst: local, Link: 3, Connected: true}, {Dst: p(tt.route), Link: 4}},
			},
			Guards: []guard.Guard{{Local: local, Remote: remote, Source: guard.FromMemory, Tunnel: "t0123456789", Dirs: 7, Expires: 1 << 40}},
			Config: firewall.Config{Marks: firewall.DefaultMarks()},
		}
		f := Facts(in)
		if uplink := slices.Contains(f.Uplinks, "line0"); uplink != tt.uplink {
			t.Errorf("%s: an uplink: %t", tt.route, uplink)
		}
		// A tunnel that takes any source, to a peer by another route.
		wide := netip.PrefixFrom(map[bool]netip.Addr{true: netip.IPv4Unspecified(), false: netip.IPv6Unspecified()}[remote.Addr().Is4()], 0)
		tunnel := xfrm.Tunnel{ID: "t0123456789", Reqid: 1, Remote: p("192.0.2.1/32").Addr(), Pairs: []xfrm.Pair{{Local: wide, Remote: remote, Dirs: 7}}}
		in.Set.Tunnels, in.Host.Routes = []xfrm.Tunnel{tunnel}, append(in.Host.Routes, xfrm.Route{Dst: p("192.0.2.1/32"), Link: 2})
		strangers := Facts(in).Strangers
		if among := slices.ContainsFunc(strangers, func(s firewall.Stranger) bool { return s.In == "line0" }); among != tt.uplink {
			t.Errorf("%s: strangers come in by %+v", tt.route, strangers)
		}
		if gives := len(f.Guards[0].Exempt) > 0 || len(f.Lines) > 0; gives && tt.uplink || !gives && !tt.uplink {
			t.Errorf("%s: the guard of %s gives way on %v, lines %v", tt.route, tt.remote, f.Guards[0].Exempt, f.Lines)
		}
		if behind := slices.Contains(f.Behind, p(tt.route)); behind == tt.uplink {
			t.Errorf("%s: behind this gateway: %t", tt.route, behind)
		}
	}
}
