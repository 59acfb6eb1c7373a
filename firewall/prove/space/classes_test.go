package space

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// A class lies in a prefix as its values do, and networks are told of classes and of none but
// those, for random prefixes.
func TestClasses(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	root := netip.MustParsePrefix("0.0.0.0/0")
	random := func() netip.Prefix {
		a := netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(3)), byte(r.IntN(256))})
		return netip.PrefixFrom(a, pickOf(r, 0, 1, 8, 15, 16, 22, 24, 25, 31, 32)).Masked()
	}
	for range 300 {
		list := make([]netip.Prefix, r.IntN(20))
		for i := range list {
			list[i] = random()
		}
		c := newClasses(root, list)
		f := Classed{classes: c}
		for range 30 {
			a := random().Addr()
			n := c.number(a)
			var around, within []netip.Prefix
			for i := range c.nodes {
				if c.nodes[i].Contains(a) {
					around = append(around, c.nodes[i].Prefix)
				}
				if c.nodes[i].first <= n && n <= c.nodes[i].last {
					within = append(within, c.nodes[i].Prefix)
				}
			}
			if diff := cmp.Diff(around, within, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Fatalf("%v: %v in -, its class in +:\n%s", list, a, diff)
			}
		}
		var some []int
		for n := range c.of {
			if c.number(c.value(n)) != n {
				t.Fatalf("%v: the value of class %d is %v, of class %d", list, n, c.value(n), c.number(c.value(n)))
			}
			if r.IntN(2) == 0 {
				some = append(some, n)
			}
		}
		networks := f.Networks(some)
		for n := range c.of {
			a, told := c.value(n), 0
			for _, network := range networks {
				if network.Contains(a) && !slices.ContainsFunc(network.But, func(p netip.Prefix) bool { return p.Contains(a) }) {
					told++
				}
			}
			if want := slices.Contains(some, n); told > 1 || want != (told == 1) {
				t.Fatalf("%v: class %d, %v, is told %d times in %v, wanted %v", list, n, a, told, networks, want)
			}
		}
	}
}

func pickOf(r *rand.Rand, list ...int) int { return list[r.IntN(len(list))] }

// A value that the space does not know is an error.
func TestOddValues(t *testing.T) {
	s := New(xfrm.IPv4, &firewall.Facts{}, Values{}, false)
	s.LiesIn(s.Src, netip.MustParsePrefix("127.0.0.0/8"))
	if err := s.Odd(); err != nil {
		t.Errorf("a known value: %v", err)
	}
	s.LiesIn(s.Src, netip.MustParsePrefix("10.1.0.0/24"))
	if s.Odd() == nil {
		t.Error("no error about an unknown value")
	}
}
