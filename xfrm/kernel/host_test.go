package kernel

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

func TestLink(t *testing.T) {
	attrs := netlink.LinkAttrs{Index: 5, Name: "x0", MasterIndex: 2, ParentIndex: 3, NetNsID: -1, MTU: 1400, Flags: net.FlagUp}
	local, remote := net.IP{192, 0, 2, 1}, net.IP{192, 0, 2, 2}
	local6, remote6 := net.ParseIP("2001:db8::1"), net.ParseIP("2001:db8::2")
	base := xfrm.Link{Index: 5, Name: "x0", Master: 2, Parent: 3, MTU: 1400, Up: true}
	ends := func(x *xfrm.Link) {
		x.Local, x.Remote = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	}
	ends6 := func(x *xfrm.Link) {
		x.Local, x.Remote = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	}
	tests := []struct {
		link netlink.Link
		want func(*xfrm.Link)
	}{
		{&netlink.Device{LinkAttrs: attrs}, func(x *xfrm.Link) {}},
		{&netlink.GenericLink{LinkAttrs: attrs, LinkType: "macsec"}, func(x *xfrm.Link) { x.Kind = "macsec" }},
		{&netlink.Tuntap{LinkAttrs: attrs}, func(x *xfrm.Link) { x.Kind = "tun" }},
		{&netlink.Xfrmi{LinkAttrs: attrs, Ifid: 7}, func(x *xfrm.Link) { x.Kind, x.IfID = "xfrm", 7 }},
		{&netlink.Vti{LinkAttrs: attrs, IKey: 1, OKey: 2, Local: local, Remote: remote}, func(x *xfrm.Link) {
			ends(x)
			x.Kind, x.IKey, x.OKey = "vti", 1, 2
		}},
		{&netlink.Vti{LinkAttrs: attrs, Local: local6, Remote: remote6}, func(x *xfrm.Link) { ends6(x); x.Kind = "vti6" }},
		{&netlink.Vti{LinkAttrs: attrs, Local: net.IP{0, 0, 0, 0}, Remote: net.IP{0, 0, 0, 0}}, func(x *xfrm.Link) { x.Kind = "vti" }},
		{&netlink.Gretun{LinkAttrs: attrs, IKey: 1, OKey: 2, Local: local, Remote: remote}, func(x *xfrm.Link) {
			ends(x)
			x.Kind, x.IKey, x.OKey = "gre", 1, 2
		}},
		// As the library reads "ikey 1 okey 2", see TestReadLinks.
		{&netlink.Gretap{LinkAttrs: attrs, IKey: 2, OKey: 1, Local: local, Remote: remote}, func(x *xfrm.Link) {
			ends(x)
			x.Kind, x.IKey, x.OKey = "gretap", 1, 2
		}},
		{&netlink.Iptun{LinkAttrs: attrs, Local: local, Remote: remote}, func(x *xfrm.Link) { ends(x); x.Kind = "ipip" }},
		{&netlink.Sittun{LinkAttrs: attrs, Local: local, Remote: remote}, func(x *xfrm.Link) { ends(x); x.Kind = "sit" }},
		{&netlink.Ip6tnl{LinkAttrs: attrs, Local: local6, Remote: remote6}, func(x *xfrm.Link) { ends6(x); x.Kind = "ip6tnl" }},
		{&netlink.Vxlan{LinkAttrs: attrs, VtepDevIndex: 3, SrcAddr: local, Group: remote, Port: 4789}, func(x *xfrm.Link) {
			ends(x)
			x.Kind, x.Port = "vxlan", 4789
		}},
		{&netlink.Geneve{LinkAttrs: attrs, Remote: remote, Dport: 6081}, func(x *xfrm.Link) {
			x.Kind, x.Remote, x.Port = "geneve", netip.MustParseAddr("192.0.2.2"), 6081
		}},
		{&netlink.Veth{LinkAttrs: attrs}, func(x *xfrm.Link) { x.Kind, x.Parent = "veth", 0 }},
		{&netlink.Vlan{LinkAttrs: with(attrs, func(a *netlink.LinkAttrs) { a.NetNsID = 0 })}, func(x *xfrm.Link) {
			x.Kind, x.Parent = "vlan", 0
		}},
	}
	for _, tt := range tests {
		want := base
		tt.want(&want)
		if got := link(tt.link); got != want {
			t.Errorf("%T:\ngot  %+v\nwant %+v", tt.link, got, want)
		}
	}
}

// Each link is made in the running kernel, as far as it has the driver.
func TestReadLinks(t *testing.T) {
	netns(t)
	v4 := func(l *xfrm.Link) {
		l.Local, l.Remote = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	}
	v6 := func(l *xfrm.Link) {
		l.Local, l.Remote = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	}
	ip(t, "link add y0 type veth peer name y1") // lo carries no VLAN
	defer ip(t, "link del y0")
	ip(t, "link set y0 up")
	below := named(read(t).Host.Links, "y0").Index
	const ends4, ends6 = " local 192.0.2.1 remote 192.0.2.2", " local 2001:db8::1 remote 2001:db8::2"
	tests := []struct {
		add  string // after "ip link add x0"
		want func(*xfrm.Link)
	}{
		{"type bridge", func(l *xfrm.Link) { l.Kind = "bridge" }},
		{"type veth peer name x1", func(l *xfrm.Link) { l.Kind = "veth" }},
		{"link y0 type vlan id 5", func(l *xfrm.Link) { l.Kind, l.Parent = "vlan", below }},
		{"type vrf table 10", func(l *xfrm.Link) { l.Kind = "vrf" }},
		{"type xfrm dev lo if_id 0x2a", func(l *xfrm.Link) { l.Kind, l.Parent, l.IfID = "xfrm", 1, 42 }},
		{"type vti" + ends4 + " ikey 1 okey 2", func(l *xfrm.Link) { v4(l); l.Kind, l.IKey, l.OKey = "vti", 1, 2 }},
		{"type vti6" + ends6 + " key 7", func(l *xfrm.Link) { v6(l); l.Kind, l.IKey, l.OKey = "vti6", 7, 7 }},
		{"type gre" + ends4 + " ikey 1 okey 2", func(l *xfrm.Link) { v4(l); l.Kind, l.IKey, l.OKey = "gre", 1, 2 }},
		{"type gretap" + ends4 + " ikey 1 okey 2", func(l *xfrm.Link) { v4(l); l.Kind, l.IKey, l.OKey = "gretap", 1, 2 }},
		{"type ip6gre" + ends6 + " ikey 1 okey 2", func(l *xfrm.Link) { v6(l); l.Kind, l.IKey, l.OKey = "ip6gre", 1, 2 }},
		{"type ipip" + ends4, func(l *xfrm.Link) { v4(l); l.Kind = "ipip" }},
		{"type sit" + ends4, func(l *xfrm.Link) { v4(l); l.Kind = "sit" }},
		{"type ip6tnl" + ends6, func(l *xfrm.Link) { v6(l); l.Kind = "ip6tnl" }},
		{"type vxlan id 5 dev lo dstport 4789" + ends4, func(l *xfrm.Link) { v4(l); l.Kind, l.Parent, l.Port = "vxlan", 1, 4789 }},
		{"type geneve id 5 remote 192.0.2.2", func(l *xfrm.Link) {
			l.Kind, l.Port, l.Remote = "geneve", 6081, netip.MustParseAddr("192.0.2.2")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.add, func(t *testing.T) {
			tryIP(t, "links", "link add x0 "+tt.add)
			defer ip(t, "link del x0")
			ip(t, "link set x0 mtu 1300 up")
			got := named(read(t).Host.Links, "x0")
			want := xfrm.Link{Index: got.Index, Name: "x0", Up: true, MTU: 1300, MAC: got.MAC}
			tt.want(&want)
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestReadAddressesAndRoutes(t *testing.T) {
	netns(t)
	ip(t, "link add x0 type veth peer name x1")
	defer ip(t, "link del x0")
	ip(t, "link set x1 up")
	ip(t, "link set x0 up")
	ip(t, "addr add 192.0.2.1/24 dev x0")
	ip(t, "addr add 198.51.100.1 peer 198.51.100.2/32 dev x0")
	ip(t, "addr add 2001:db8::1/32 dev x0 nodad")
	ip(t, "route add default via 192.0.2.254")
	ip(t, "route add 10.0.0.0/8 via inet6 fe80::1 dev x0")
	ip(t, "route add 10.9.0.0/16 table 220 nexthop via 192.0.2.3 dev x0 nexthop via 192.0.2.4 dev x0")
	ip(t, "route add blackhole 10.8.0.0/16")
	defer ip(t, "route del blackhole 10.8.0.0/16")
	ip(t, "route add default via 2001:db8::fe dev x0")
	ip(t, "route add fd00::/8 dev x0 table 100000")
	s := read(t)

	x0 := named(s.Host.Links, "x0").Index
	for _, want := range []string{"192.0.2.1/24", "198.51.100.1/32", "2001:db8::1/32"} {
		if !slices.Contains(s.Host.Addresses, xfrm.Address{Link: x0, Prefix: netip.MustParsePrefix(want)}) {
			t.Errorf("no address %s in %+v", want, s.Host.Addresses)
		}
	}
	if !s.Host.Owns(netip.MustParseAddr("2001:db8::1")) || !s.Host.Owns(netip.MustParseAddr("::1")) {
		t.Error("the host does not own its addresses")
	}

	route := func(dst, via string, table uint32) xfrm.Route {
		r := xfrm.Route{Dst: netip.MustParsePrefix(dst), Link: x0, Table: table, Connected: via == ""}
		if via != "" {
			r.Via = netip.MustParseAddr(via)
		}
		return r
	}
	want := []xfrm.Route{
		route("192.0.2.0/24", "", 254),
		route("198.51.100.2/32", "", 254),
		route("0.0.0.0/0", "192.0.2.254", 254),
		route("10.0.0.0/8", "fe80::1", 254),
		route("10.9.0.0/16", "192.0.2.3", 220),
		route("10.9.0.0/16", "192.0.2.4", 220),
		route("2001:db8::/32", "", 254),
		route("::/0", "2001:db8::fe", 254),
		route("fd00::/8", "", 100000),
	}
	for _, w := range want {
		if !slices.Contains(s.Host.Routes, w) {
			t.Errorf("no route %+v", w)
		}
	}
	for _, r := range s.Host.Routes {
		if r.Dst == netip.MustParsePrefix("10.8.0.0/16") {
			t.Errorf("not unicast: %+v", r)
		}
	}
	if t.Failed() {
		t.Logf("routes %+v", s.Host.Routes)
	}
}

func TestRouteDst(t *testing.T) {
	_, allocation, _ := net.ParseCIDR("2001:db8::/32")
	tests := []struct {
		dst    *net.IPNet
		family int
		want   netip.Prefix
	}{
		{nil, netlink.FAMILY_V4, netip.Prefix{}},
		{&net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, netlink.FAMILY_V4, netip.MustParsePrefix("0.0.0.0/0")},
		{&net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, netlink.FAMILY_V6, netip.MustParsePrefix("::/0")},
		{allocation, netlink.FAMILY_V6, netip.MustParsePrefix("2001:db8::/32")},
		{&net.IPNet{IP: net.ParseIP("10.0.0.0"), Mask: net.CIDRMask(104, 128)}, netlink.FAMILY_V6, netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.0"), 104)},
	}
	for _, tt := range tests {
		if got := routeDst(tt.dst, tt.family); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.dst, got, tt.want)
		}
	}
}

// A list that never stands still is used as it is, with a note.
func TestListInterrupted(t *testing.T) {
	tests := []struct {
		name    string
		results []error
		calls   int
		skipped int
		err     error
	}{
		{"at once", []error{nil}, 1, 0, nil},
		{"second time", []error{netlink.ErrDumpInterrupted, nil}, 2, 0, nil},
		{"never", slices.Repeat([]error{netlink.ErrDumpInterrupted}, 9), attempts, 1, nil},
		{"error", []error{net.ErrClosed}, 1, 0, net.ErrClosed},
	}
	for _, tt := range tests {
		var s xfrm.Snapshot
		calls := 0
		err := list(t.Context(), &s, "links", func() error {
			calls++
			return tt.results[calls-1]
		})
		if !errors.Is(err, tt.err) || calls != tt.calls || len(s.Skipped) != tt.skipped {
			t.Errorf("%s: got %v after %d calls, skipped %q", tt.name, err, calls, s.Skipped)
		}
	}
}

// A name that no rule can carry is left out, with a reason that is safe to print.
func TestReadOddLinkName(t *testing.T) {
	netns(t)
	tryIP(t, "links", `link add a"b type bridge`)
	defer ip(t, `link del a"b`)
	s, err := Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if len(s.Skipped) != 1 || !strings.Contains(s.Skipped[0].Reason, "not supported") {
		t.Errorf("skipped %+v", s.Skipped)
	}
	for _, l := range s.Host.Links {
		if strings.Contains(l.Name, `"`) {
			t.Errorf("got %+v", l)
		}
	}
}

// named returns the link with that name, or the zero Link.
func named(links []xfrm.Link, name string) xfrm.Link {
	for _, l := range links {
		if l.Name == name {
			return l
		}
	}
	return xfrm.Link{}
}
