package firewall

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

const day = 24 * 3600

func remember(memory []Guard, s xfrm.Snapshot, now int64) []Guard {
	s.Host.Resolvers = []netip.Addr{addr("9.9.9.9")}
	set := xfrm.Tunnels(s)
	fresh, _ := Remember(memory, LiveGuards(set, s.Host), set, s.Host, GuardConfig{}, now)
	return fresh
}

func TestWhatIsRemembered(t *testing.T) {
	at := func(pair [2]string, tune func(*site)) site {
		s := sunSite()
		s.pairs = [][2]string{pair}
		if tune != nil {
			tune(&s)
		}
		return s
	}
	transport := func(s *site) { s.mode = xfrm.TransportMode }
	for _, tc := range []struct {
		name string
		site site
		want bool
	}{
		{"a site", at([2]string{sunLAN, moonLAN}, nil), true},
		{"a v6 site", at([2]string{sun6LAN, "2001:db8:5::/48"}, nil), true},
		{"the whole internet", at([2]string{sunLAN, "0.0.0.0/0"}, nil), false},
		{"what covers the LAN", at([2]string{sunLAN, "10.0.0.0/8"}, nil), false},
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
			other := site{reqid: 9, local: sunWAN, remote: "203.0.113.9", mode: xfrm.TunnelMode, pairs: [][2]string{{sunLAN, "0.0.0.0/0"}}}
			got := remember(nil, snapshotOf(host, tc.site, other), 1000)
			if (len(got) == 1) != tc.want {
				t.Errorf("remembered %+v, want %v", got, tc.want)
			}
		})
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

// A peer that keeps narrowing its selectors fills its own share and no more.
func TestMemoryIsBoundedByPeer(t *testing.T) {
	host := sunHost()
	memory := remember(nil, snapshotOf(host, sunSite()), 1000)
	for i := range 200 {
		evil := site{reqid: 7, local: sunWAN, remote: "198.51.100.66", mode: xfrm.TunnelMode,
			pairs: [][2]string{{sunLAN, fmt.Sprintf("172.20.%d.0/24", i)}}}
		memory = remember(memory, snapshotOf(host, evil), 2000)
	}
	if len(memory) != 1+maxRememberedByPeer {
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
	w := compileInput(t, snapshotOf(sunHost()), Input{Guards: memory})
	if got := w.arrive(clear4("10.1.0.200", "10.2.0.10"), nil); got.final == Drop {
		t.Error("a bypass policy that came first was forgotten")
	}
	for _, src := range []string{"10.1.0.70", "10.1.0.10"} {
		if got := w.arrive(clear4(src, "10.2.0.10"), nil); got.final != Drop {
			t.Errorf("from %s: not guarded", src)
		}
	}
	// The bypass goes while the tunnel stands: then it is not remembered either.
	memory = remember(memory, snapshotOf(sunHost(), sunSite()), 2000)
	w = compileInput(t, snapshotOf(sunHost()), Input{Guards: memory})
	if got := w.arrive(clear4("10.1.0.200", "10.2.0.10"), nil); got.final != Drop {
		t.Error("an exception outlived its policy though the tunnel stood")
	}
}
