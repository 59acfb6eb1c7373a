package prefix

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// A set answers as a look at each of its prefixes does.
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
		var all []netip.Prefix
		for range r.IntN(12) {
			p := prefix()
			all = append(all, p)
		}
		s := NewSet(all)
		p := prefix()
		want := OverlapsAny(p, all)
		seen[want]++
		if got := s.Overlaps(p); got != want {
			t.Fatalf("%s overlaps any of %v: %v, want %v", p, all, got, want)
		}
	}
	if seen[true] < 200 || seen[false] < 200 {
		t.Errorf("overlaps: %v", seen)
	}
}
