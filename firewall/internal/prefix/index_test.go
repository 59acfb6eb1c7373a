package prefix

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// An index finds the same as a look at each prefix.
func TestIndex(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func() netip.Prefix {
		if rnd.IntN(4) == 0 {
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, byte(rnd.IntN(2)), byte(rnd.IntN(4))}), rnd.IntN(129))
		}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rnd.IntN(2)), byte(rnd.IntN(4)), byte(rnd.IntN(256))}), rnd.IntN(33))
	}
	for range 200 {
		list := make([]netip.Prefix, rnd.IntN(40))
		for i := range list {
			if list[i] = random(); rnd.IntN(20) == 0 {
				list[i] = netip.Prefix{}
			}
		}
		x := NewIndex(len(list), func(i int) netip.Prefix { return list[i] })
		for range 20 {
			p := random()
			var want []int
			for i, q := range list {
				if q.IsValid() && q.Overlaps(p) {
					want = append(want, i)
				}
			}
			if diff := cmp.Diff(want, x.Overlapping(p)); diff != "" {
				t.Fatalf("%v in %v: %s", p, list, diff)
			}
			within := slices.ContainsFunc(list, func(q netip.Prefix) bool { return q.IsValid() && q.Overlaps(p) && q.Bits() >= p.Bits() })
			if got := x.Within(p); got != within {
				t.Fatalf("%v within %v is %v", list, p, got)
			}
		}
	}
}
