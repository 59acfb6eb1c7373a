package decide

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// TestUntoldLimits: limits of a tunnel that shares an overlay device hold for the other
// tunnels too, unless remote: tells its packets, and a warning says so.
func TestUntoldLimits(t *testing.T) {
	p := netip.MustParsePrefix
	host := xfrm.Host{Links: []xfrm.Link{{Index: 1, Name: "gre1", Kind: "gre", Local: netip.MustParseAddr("192.0.2.2")}}}
	var policies []xfrm.Policy
	for reqid, peer := range map[uint32]string{1: "192.0.2.1", 2: "192.0.2.66"} {
		policies = append(policies, xfrm.Policy{
			Dir: xfrm.Out, Selector: xfrm.Selector{Family: xfrm.IPv4, Src: p("192.0.2.2/32"), Dst: p(peer + "/32"), Proto: xfrm.GRE},
			Templates: []xfrm.Template{{Family: xfrm.IPv4, Proto: xfrm.ESP, Mode: xfrm.TransportMode, Reqid: reqid}},
		})
	}
	set := xfrm.Tunnels(xfrm.Snapshot{Schema: xfrm.SchemaVersion, Host: host, Policies: policies})
	web := []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(443)}}
	for _, test := range []struct {
		name   string
		entry  firewall.TunnelConfig
		warned bool
	}{
		{"in: alone", firewall.TunnelConfig{In: web}, true},
		{"with remote:", firewall.TunnelConfig{In: web, Remote: []netip.Prefix{p("10.3.0.0/24"), p("192.0.2.66/32")}}, false},
		{"remote: alone", firewall.TunnelConfig{Remote: []netip.Prefix{p("10.3.0.0/24"), p("192.0.2.66/32")}}, false},
	} {
		test.entry.Match = firewall.Match{Reqid: 2}
		f := Facts(firewall.Input{Set: set, Host: host, Config: firewall.Config{Marks: firewall.DefaultMarks(), Tunnels: []firewall.TunnelConfig{test.entry}}})
		warned := slices.ContainsFunc(f.Warnings, func(w string) bool { return strings.Contains(w, "hold for all packets of gre1") })
		if warned != test.warned {
			t.Errorf("%s: warned is %v, want %v: %q", test.name, warned, test.warned, f.Warnings)
		}
	}
}
