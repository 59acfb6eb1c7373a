package program

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

func ownedBy(tunnel, name, network string) owned {
	return owned{firewall.Network{Prefix: netip.MustParsePrefix(network), Device: name}, tunnel}
}

func TestSpans(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []owned
		want []string
	}{
		{"none", nil, nil},
		{"apart", []owned{ownedBy("b", "vti0", "10.3.0.0/24"), ownedBy("a", "vti0", "10.1.0.0/24")}, []string{"vti0 10.1.0.0-10.1.0.255 a", "vti0 10.3.0.0-10.3.0.255 b"}},
		{"beside each other", []owned{ownedBy("a", "vti0", "10.1.0.0/24"), ownedBy("a", "vti0", "10.1.1.0/24")}, []string{"vti0 10.1.0.0-10.1.0.255 a", "vti0 10.1.1.0-10.1.1.255 a"}},
		{"within a tunnel's own", []owned{ownedBy("a", "vti0", "10.1.0.0/24"), ownedBy("a", "vti0", "10.0.0.0/8"), ownedBy("a", "vti0", "10.1.0.7/32")}, []string{"vti0 10.0.0.0-10.255.255.255 a"}},
		{
			"within another tunnel's", []owned{ownedBy("a", "vti0", "10.0.0.0/8"), ownedBy("b", "vti0", "10.3.0.0/24"), ownedBy("a", "vti0", "10.3.0.7/32")},
			[]string{"vti0 10.0.0.0-10.2.255.255 a", "vti0 10.3.0.0-10.3.0.6 b", "vti0 10.3.0.7-10.3.0.7 a", "vti0 10.3.0.8-10.3.0.255 b", "vti0 10.3.1.0-10.255.255.255 a"},
		},
		{
			"at both ends of everything", []owned{ownedBy("a", "vti0", "0.0.0.0/0"), ownedBy("b", "vti0", "0.0.0.0/8"), ownedBy("c", "vti0", "255.0.0.0/8"), ownedBy("b", "vti0", "255.255.255.255/32")},
			[]string{"vti0 0.0.0.0-0.255.255.255 b", "vti0 1.0.0.0-254.255.255.255 a", "vti0 255.0.0.0-255.255.255.254 c", "vti0 255.255.255.255-255.255.255.255 b"},
		},
		{"of several tunnels", []owned{ownedBy("a", "vti0", "10.1.0.0/24"), ownedBy("b", "vti0", "10.1.0.0/24"), ownedBy("a", "vti0", "10.0.0.0/15")}, []string{"vti0 10.0.0.0-10.0.255.255 a", "vti0 10.1.0.0-10.1.0.255 ", "vti0 10.1.1.0-10.1.255.255 a"}},
		{"of two devices", []owned{ownedBy("a", "vti0", "10.0.0.0/8"), ownedBy("b", "vti1", "10.0.0.0/8")}, []string{"vti0 10.0.0.0-10.255.255.255 a", "vti1 10.0.0.0-10.255.255.255 b"}},
		{"of IPv6", []owned{ownedBy("a", "vti0", "::/0"), ownedBy("b", "vti0", "ffff::/16")}, []string{"vti0 ::-fffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff a", "vti0 ffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff b"}},
		{"with bits of a host", []owned{ownedBy("a", "vti0", "10.1.0.7/24")}, []string{"vti0 10.1.0.0-10.1.0.255 a"}},
	} {
		var got []string
		for _, s := range spans(c.in) {
			got = append(got, fmt.Sprintf("%s %s-%s %s", s.device, s.first, s.last, s.tunnel))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
}

// Each address of random networks is in one span, which is of the tunnel with the narrowest
// network around it; addresses of no network are in none.
func TestSpansAreTheNarrowestNetworks(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		var networks []owned
		for range 1 + r.IntN(12) {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, byte(r.IntN(256))}), 24+r.IntN(9))
			networks = append(networks, owned{firewall.Network{Prefix: p, Device: "vti0"}, string(rune('a' + r.IntN(3)))})
		}
		list := spans(networks)
		for last := range 256 {
			a := netip.AddrFrom4([4]byte{255, 255, 255, byte(last)})
			want, bits := "none", -1
			for _, n := range networks {
				switch {
				case !n.Prefix.Masked().Contains(a) || n.Prefix.Bits() < bits:
				case n.Prefix.Bits() == bits && n.tunnel != want:
					want = ""
				default:
					want, bits = n.tunnel, n.Prefix.Bits()
				}
			}
			got := "none"
			for _, s := range list {
				if a.Compare(s.first) >= 0 && a.Compare(s.last) <= 0 {
					if got != "none" {
						t.Fatalf("seed %d: %s is in two spans of %v", seed, a, list)
					}
					got = s.tunnel
				}
			}
			if got != want {
				t.Fatalf("seed %d: %s is of %q, want %q: %v", seed, a, got, want, networks)
			}
		}
	}
}

// shared are the facts about n tunnels on one VTI.
func shared(n int) firewall.Facts {
	f := sites(0)
	for i := range n {
		f.Overlays = append(f.Overlays, firewall.Overlay{
			Overlay: device.Overlay{Tunnel: fmt.Sprintf("t%010x", i), Devices: []string{"vti0"}, VTI: true},
			Sources: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)},
		})
	}
	return f
}

// A tunnel more on a shared device is one element more, no rule looks a packet up before it
// is known to come out of such a device, and a packet is looked up in one set.
func TestTunnelOfASharedDeviceIsAnElement(t *testing.T) {
	few, more := shared(100), shared(101)
	have, want := Table(&few, Options{}), Table(&more, Options{})
	if err := want.Validate(); err != nil {
		t.Fatal(err)
	}
	change := sets.Diff(have, want)
	if got := change.String(); len(change.Ops()) != 1 || len(change.Shrink) != 1 || got != `add element out_of4 { "vti0" . 10.0.100.0/24 comment "t0000000064" }`+"\n" {
		t.Errorf("a tunnel more is\n%s", got)
	}
	lookups := 0
	pre, _ := have.Chain("pre")
	for _, r := range pre.Rules {
		of := false
		for _, term := range r.Terms {
			switch term := term.(type) {
			case sets.OneOf:
				of = of || term.Field.Kind == sets.InName
			case sets.Match:
				of = of || term.Field.Kind == sets.InName
			case sets.In:
				if lookups++; !of || term.Set != "out_of4" {
					t.Errorf("looked up: %s", r)
				}
			case sets.Update:
				t.Errorf("counted besides: %s", r)
			}
		}
	}
	if lookups != 3 { // by the packet's source, or those of the flow that an error is about
		t.Errorf("%d look-ups", lookups)
	}
}
