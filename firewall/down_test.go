package firewall

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// One pair whose tunnel is gone is refused in OUTPUT without a rule for each of the
// tunnels that stand, but for those inside of it, whose packets the kernel holds.
func TestOneDownAmongMany(t *testing.T) {
	var up []site
	for i := range 200 {
		up = append(up, peer(i+1, fmt.Sprintf("203.0.113.%d", i), [2]string{sunLAN, fmt.Sprintf("10.100.%d.0/24", i)}))
	}
	inside := peer(300, "203.0.113.250", [2]string{sunLAN, "10.50.7.0/24"})
	gone := remember(nil, snapshotOf(sunHost(), peer(400, "203.0.113.251", [2]string{sunLAN, "10.50.0.0/16"})), 1000)
	w := compileInput(t, snapshotOf(sunHost(), append(up, inside)...), Input{Guards: gone})
	rules := 0
	for _, c := range w.result.Rulesets[0].Chains {
		if strings.HasPrefix(c.Name, chainDown+"-T") {
			rules += c.Rules.Len()
		}
	}
	if rules != 2 {
		t.Errorf("%d rules tell what is down, want 2: one for the pair, one for the tunnel inside of it", rules)
	}
	for to, want := range map[string]bool{"10.50.1.1": true, "10.50.7.1": false, "10.100.3.1": false} {
		p := Packet{Src: addr("10.2.0.1"), Dst: addr(to), Out: "eth0", SrcLocal: true}
		if got := w.leave(p, "OUTPUT"); got.met(PurposeReject) != want {
			t.Errorf("to %s: refused %v, want %v", to, !want, want)
		}
	}
}

func TestPrefixSet(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 5))
	prefix := func() netip.Prefix {
		if r.IntN(4) == 0 {
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(r.IntN(64))}), 120+r.IntN(9)).Masked()
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(4)), byte(r.IntN(256))}), 20+r.IntN(13)).Masked()
	}
	seen := make(map[bool]int)
	for range 2000 {
		var s prefixSet
		var all []netip.Prefix
		for range r.IntN(12) {
			p := prefix()
			all = append(all, p)
			s.add(p)
		}
		s.sort()
		p := prefix()
		want := overlapsAny(p, all)
		seen[want]++
		if got := s.overlaps(p); got != want {
			t.Fatalf("%s overlaps any of %v: %v, want %v", p, all, got, want)
		}
	}
	if seen[true] < 200 || seen[false] < 200 {
		t.Errorf("overlaps: %v", seen)
	}
}
