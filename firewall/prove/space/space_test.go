package space

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The vector of a packet is the packet again.
func TestPacketsAreVectors(t *testing.T) {
	in := fake.Gateway(rand.New(rand.NewPCG(1, 4242)))
	facts := decide.Facts(in)
	maker := fake.NewPassages(rand.New(rand.NewPCG(1, 7)), in, &facts)
	for range 300 {
		p := maker.Next()
		s := New(xfrm.FamilyOf(p.Received.Src), &facts, Values{Names: fake.Links(in.Host)}, false)
		v := s.vector(p)
		if again := s.vector(s.packet(p.Way, v)); fmt.Sprint(again) != fmt.Sprint(v) {
			t.Fatalf("%+v became %+v", p, s.packet(p.Way, v))
		}
	}
}

// A packet before DNAT has the destination that it has behind it and that answers, where a
// set leaves that open: in both orders of a packet's bits.
func TestWitnessNeedsNoDNAT(t *testing.T) {
	var facts firewall.Facts
	dst := netip.MustParsePrefix("10.1.0.0/24")
	values := Values{Addresses: []netip.Prefix{dst, netip.MustParsePrefix("10.2.0.0/24"), netip.MustParsePrefix("10.3.0.0/24")}}
	for _, own := range []int{1, 20} {
		for i := range own {
			var g firewall.GuardFacts
			g.Local, g.Remote = netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i)}), 24), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(i)}), 24)
			facts.Guards = append(facts.Guards, g)
		}
		s := New(xfrm.IPv4, &facts, values, false)
		for _, f := range []Classed{s.Dst, s.RoutedDst} {
			if p := s.Witness(firewall.Through, s.LiesIn(f, dst)); !dst.Contains(p.Received.Dst) || p.AfterDNAT.Dst != p.Received.Dst || p.Flow.ReplySrc != p.Received.Dst {
				t.Errorf("%d local networks: %+v", own, p)
			}
		}
	}
}
