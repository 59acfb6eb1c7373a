package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

const day = 24 * 3600

func remember(memory []guard.Guard, s xfrm.Snapshot, now int64) []guard.Guard {
	s.Host.Resolvers = []netip.Addr{addr("9.9.9.9")}
	set := xfrm.Tunnels(s)
	return guard.Remember(memory, guard.Live(set, s.Host), set, s.Host, nil, guard.Config{}, now).Guards
}

func TestWhatIsRemembered(t *testing.T) {
	at := func(pair [2]string, tune func(*sample.Site)) sample.Site {
		s := sunSite()
		s.Pairs = [][2]string{pair}
		if tune != nil {
			tune(&s)
		}
		return s
	}
	transport := func(s *sample.Site) { s.Transport = true }
	for _, tc := range []struct {
		name string
		site sample.Site
		want bool
	}{
		{"a site", at([2]string{sunLAN, moonLAN}, nil), true},
		{"a v6 site", at([2]string{sun6LAN, "2001:db8:5::/48"}, nil), true},
		{"the whole internet", at([2]string{sunLAN, "0.0.0.0/0"}, nil), false},
		{"what covers the LAN and a network behind an inner router", at([2]string{sunLAN, "10.0.0.0/8"}, nil), false},
		{"what covers the LAN", at([2]string{sunLAN, "10.0.0.0/14"}, nil), true},
		{"a part of the LAN", at([2]string{sunLAN, "10.2.0.128/25"}, nil), false},
		{"what covers the gateway", at([2]string{sunLAN, "192.0.2.128/25"}, nil), false},
		{"what covers the name server", at([2]string{sunLAN, "9.9.9.0/24"}, nil), false},
		{"what covers another peer", at([2]string{sunLAN, "203.0.113.0/24"}, nil), false},
		{"a road warrior's lease", at([2]string{sunLAN, "10.50.0.7/32"}, nil), false},
		{"the peer itself", at([2]string{sunWAN + "/32", moonWAN + "/32"}, transport), true},
		{"a network behind an inner router", at([2]string{sunLAN, "10.77.0.0/16"}, nil), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := sunHost()
			host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("10.77.3.0/24"), Link: 3, Via: addr("10.2.0.5")})
			other := sample.Site{Reqid: 9, Local: sunWAN, Remote: "203.0.113.9", Pairs: [][2]string{{sunLAN, "0.0.0.0/0"}}}
			got := remember(nil, snapshotOf(host, tc.site, other), 1000)
			if (len(got) == 1) != tc.want {
				t.Errorf("remembered %+v, want %v", got, tc.want)
			}
		})
	}
}

// Routes to the internet in halves lead to no site, by whichever interface.
func TestHalvesOfTheInternetAreNoNetwork(t *testing.T) {
	for _, pair := range [][2]string{{sunLAN, moonLAN}, {sun6LAN, "2001:db8:5::/48"}} {
		host := sunHost()
		host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "line0", Up: true})
		for _, half := range []string{"0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"} {
			host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix(half), Link: 4})
		}
		// The peer is reached by another interface.
		host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix(moonWAN + "/32"), Link: 2})
		site := sunSite()
		site.Pairs = [][2]string{pair}
		if got := remember(nil, snapshotOf(host, site), 1000); len(got) != 1 {
			t.Errorf("%s: remembered %+v", pair[1], got)
		}
	}
}

func TestMemoryAges(t *testing.T) {
	host := sunHost()
	memory := remember(nil, snapshotOf(host, sunSite()), 1000)
	if len(memory) != 1 || memory[0].Since != 1000 || memory[0].Expires != 1000+30*day {
		t.Fatalf("memory %+v", memory)
	}
	memory = remember(memory, snapshotOf(host, sunSite()), 1000+20*day)
	if memory[0].Since != 1000 || memory[0].Expires != 1000+50*day {
		t.Errorf("seen again: %+v", memory)
	}
	memory = remember(memory, snapshotOf(host), 1000+49*day)
	if len(memory) != 1 {
		t.Error("forgotten too early")
	}
	if left := remember(memory, snapshotOf(host), 1000+50*day); len(left) != 0 {
		t.Error("never forgotten")
	}
}

// By any clock, a guard lasts as long as it was to last. A time that a wrong clock wrote
// is mended.
func TestNoClockLowersAnExpiry(t *testing.T) {
	host := sunHost()
	for name, held := range map[string]guard.Guard{
		"written by a clock that was ahead": {Since: 1000 + 400*day, Expires: 1000 + 430*day},
		"with a longer time to remember":    {Since: 500, Expires: 1000 + 90*day},
	} {
		memory := remember(nil, snapshotOf(host, sunSite()), 1000)
		memory[0].Since, memory[0].Expires = held.Since, held.Expires
		got := remember(memory, snapshotOf(host, sunSite()), 2000)[0]
		if got.Expires != held.Expires || got.Since > 2000 {
			t.Errorf("%s: since %d until %d", name, got.Since, got.Expires)
		}
		if got := remember(memory, snapshotOf(host), 2000); len(got) != 1 || got[0].Expires != held.Expires {
			t.Errorf("%s: without its tunnel %+v", name, got)
		}
	}
}

// A remote selector that covers own networks is guarded when its tunnel is gone, but
// for these, each on its own interface.
func TestARemoteOverOwnNetworksIsRemembered(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "eth2", Up: true})
	host.Addresses = append(host.Addresses, xfrm.Address{Link: 4, Prefix: netip.MustParsePrefix("10.3.0.1/24")})
	host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("10.3.0.0/24"), Link: 4, Connected: true})
	wide := sunSite()
	wide.Pairs = [][2]string{{sunLAN, "10.0.0.0/8"}}
	memory := remember(nil, snapshotOf(host, wide), 1000)
	if len(memory) != 1 {
		t.Fatalf("remembered %+v", memory)
	}
	w := compileInput(t, snapshotOf(host), firewall.Input{Guards: memory})
	for _, tc := range []struct {
		src, in string
		want    bool
	}{
		{"10.1.0.10", "eth0", true}, {"10.99.0.1", "eth0", true}, {"10.3.0.10", "eth0", true}, {"10.3.0.10", "eth2", false}, {"198.51.100.7", "eth0", false},
	} {
		p := clear4(tc.src, "10.2.0.10")
		p.In = tc.in
		if got := w.arrive(p, nil); (got.final == rules.Drop) != tc.want {
			t.Errorf("from %s by %s: %v", tc.src, tc.in, got.final)
		}
	}
}

func TestUnsafePairsAreNamed(t *testing.T) {
	host := sunHost()
	host.Resolvers = []netip.Addr{addr("9.9.9.9")}
	host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("10.77.3.0/24"), Link: 3, Via: addr("10.2.0.5")})
	for remote, want := range map[string]string{
		moonLAN: "", "0.0.0.0/0": "", "10.50.0.7/32": "", "9.0.0.0/8": "the name server 9.9.9.9 lies in it", "10.77.0.0/16": "this host's route to 10.77.3.0/24 by eth1 lies in it",
		"192.0.2.128/25": "the router 192.0.2.254 lies in it", "10.2.0.0/25": "this host's address 10.2.0.1 lies in it",
	} {
		s := sunSite()
		s.Pairs = [][2]string{{sunLAN, remote}}
		snapshot := snapshotOf(host, s)
		set := xfrm.Tunnels(snapshot)
		got := guard.Remember(nil, guard.Live(set, host), set, host, nil, guard.Config{}, 1000)
		if (len(got.Unsafe) == 1) != (want != "") || len(got.Unsafe) == 1 && got.Unsafe[0].Reason != want {
			t.Errorf("%s: %+v, want %q", remote, got.Unsafe, want)
		}
	}
}

func TestMergeMemory(t *testing.T) {
	pair := func(remote string, expires int64, priority uint32) guard.Guard {
		return guard.Guard{Local: netip.MustParsePrefix(sunLAN), Remote: netip.MustParsePrefix(remote), Priority: priority, Expires: expires}
	}
	a := []guard.Guard{pair("10.1.0.0/24", 10, 1), pair("10.4.0.0/24", 10, 5)}
	b := []guard.Guard{pair("10.1.0.0/24", 20, 1), pair("10.3.0.0/24", 10, 3), pair("10.4.0.0/24", 5, 5)}
	want := []guard.Guard{pair("10.1.0.0/24", 20, 1), pair("10.3.0.0/24", 10, 3), pair("10.4.0.0/24", 10, 5)}
	if got := guard.MergeMemory(a, b); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

// A peer that comes from everywhere and narrows its selectors each time takes the room
// of its connection, of its addresses and networks, and no more.
// A pair of one protocol can't cut a router off, so it is remembered though the router is
// the peer. ICMP has the router's errors, and DNS may be asked there.
func TestAPairOfOneProtocolWithARouterIsRemembered(t *testing.T) {
	host := sunHost()
	for i := range host.Routes {
		if host.Routes[i].Via.IsValid() {
			host.Routes[i].Via = addr(moonWAN)
		}
	}
	host.Resolvers = []netip.Addr{addr(moonWAN)}
	for _, tc := range []struct {
		proto xfrm.Proto
		port  uint16
		want  int
	}{{0, 0, 0}, {xfrm.GRE, 0, 1}, {xfrm.UDP, 0, 0}, {xfrm.UDP, 4789, 1}, {xfrm.TCP, 53, 0}, {xfrm.ICMP, 0, 0}} {
		s := peer(1, moonWAN, [2]string{sunWAN + "/32", moonWAN + "/32"})
		s.Transport = true
		snap := snapshotOf(host, s)
		for i := range snap.Policies {
			p := &snap.Policies[i]
			p.Selector.Proto = tc.proto
			if tc.port == 0 {
				continue
			}
			if at := (xfrm.PortMatch{Port: tc.port, Mask: 0xffff}); p.Dir == xfrm.Out {
				p.Selector.DPort = at
			} else {
				p.Selector.SPort = at
			}
		}
		set := xfrm.Tunnels(snap)
		if memory := guard.Remember(nil, guard.Live(set, host), set, host, nil, guard.Config{}, 1000).Guards; len(memory) != tc.want {
			t.Errorf("%s port %d: %d pairs, want %d", tc.proto, tc.port, len(memory), tc.want)
		}
	}
}

func TestMemoryIsBoundedByConnection(t *testing.T) {
	host := sunHost()
	for name, tc := range map[string]struct {
		address    func(i int) string
		connection string
		most       int
	}{
		"one connection, many networks": {func(i int) string { return fmt.Sprintf("198.%d.%d.7", 18+i/200, i%200) }, "evil", guard.MaxRememberedByConnection},
		"one IPv4 /24, no hook":         {func(i int) string { return fmt.Sprintf("198.51.100.%d", i%250+1) }, "", guard.MaxRememberedByNetwork},
		"one IPv6 /64, no hook":         {func(i int) string { return fmt.Sprintf("2001:db8:bad::%x", i+1) }, "", guard.MaxRememberedByPeer},
		"one IPv6 /48, no hook":         {func(i int) string { return fmt.Sprintf("2001:db8:bad:%x::1", i+1) }, "", guard.MaxRememberedByNetwork},
	} {
		t.Run(name, func(t *testing.T) {
			var memory []guard.Guard
			refused := 0
			for i := range 1500 {
				local := sunWAN
				if strings.Contains(tc.address(i), ":") {
					local = sun6WAN
				}
				evil := sample.Site{Reqid: 7, Local: local, Remote: tc.address(i),
					Pairs: [][2]string{{sunLAN, fmt.Sprintf("172.%d.%d.0/24", 16+i/250, i%250)}}}
				s := snapshotOf(host, evil)
				set := xfrm.Tunnels(s)
				peers := map[string]string{set.Tunnels[0].ID: tc.connection}
				got := guard.Remember(memory, guard.Live(set, host), set, host, peers, guard.Config{}, 2000)
				memory, refused = got.Guards, refused+got.Refused
			}
			if len(memory) != tc.most || refused != 1500-tc.most {
				t.Errorf("%d pairs remembered and %d refused, want %d", len(memory), refused, tc.most)
			}
			if got := remember(memory, snapshotOf(host, sunSite()), 3000); len(got) != tc.most+1 {
				t.Error("there is no room for another")
			}
		})
	}
}

// A peer that keeps narrowing its selectors fills its own share and no more.
func TestMemoryIsBoundedByPeer(t *testing.T) {
	host := sunHost()
	memory := remember(nil, snapshotOf(host, sunSite()), 1000)
	for i := range 200 {
		evil := sample.Site{Reqid: 7, Local: sunWAN, Remote: "198.51.100.66",
			Pairs: [][2]string{{sunLAN, fmt.Sprintf("172.20.%d.0/24", i)}}}
		memory = remember(memory, snapshotOf(host, evil), 2000)
	}
	if len(memory) != 1+guard.MaxRememberedByPeer {
		t.Errorf("%d pairs remembered", len(memory))
	}
	found := false
	for _, g := range memory {
		found = found || g.Remote == netip.MustParsePrefix(moonLAN)
	}
	if !found {
		t.Error("another peer's pair was pushed out")
	}
}

func TestMemoryKeepsExceptions(t *testing.T) {
	s := snapshotOf(sunHost(), sunSite())
	s.Policies = append(s.Policies,
		bypass("10.1.0.128/25", sunLAN, xfrm.Fwd, 10), bypass(sunLAN, "10.1.0.128/25", xfrm.Out, 10),
		bypass("10.1.0.64/26", sunLAN, xfrm.Fwd, 9000), bypass("172.31.0.0/16", sunLAN, xfrm.Fwd, 10))
	memory := remember(nil, s, 1000)
	w := compileInput(t, snapshotOf(sunHost()), firewall.Input{Guards: memory})
	if got := w.arrive(clear4("10.1.0.200", "10.2.0.10"), nil); got.final == rules.Drop {
		t.Error("a bypass policy that came first was forgotten")
	}
	for _, src := range []string{"10.1.0.70", "10.1.0.10"} {
		if got := w.arrive(clear4(src, "10.2.0.10"), nil); got.final != rules.Drop {
			t.Errorf("from %s: not guarded", src)
		}
	}
	// The bypass goes while the tunnel stands: then it is not remembered either.
	memory = remember(memory, snapshotOf(sunHost(), sunSite()), 2000)
	w = compileInput(t, snapshotOf(sunHost()), firewall.Input{Guards: memory})
	if got := w.arrive(clear4("10.1.0.200", "10.2.0.10"), nil); got.final != rules.Drop {
		t.Error("an exception outlived its policy though the tunnel stood")
	}
}
