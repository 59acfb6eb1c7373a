package tree

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// Joined or not, the same addresses are covered, each by the right tunnel if one is named.
func TestMergedNetworksCoverTheSame(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	fewer := 0
	for range 2000 {
		var list []tunnelNetwork
		for range 1 + r.IntN(40) {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(256))}), 28+r.IntN(5)).Masked()
			list = append(list, tunnelNetwork{prefix: p, tunnel: fmt.Sprint("t", r.IntN(3))})
		}
		joined := mergeNetworks(slices.Clone(list))
		if len(joined) < len(list) {
			fewer++
		}
		for i := range 256 {
			at := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
			by := make(map[string]bool)
			for _, n := range list {
				if n.prefix.Contains(at) {
					by[n.tunnel] = true
				}
			}
			covered := false
			for _, n := range joined {
				if n.prefix.Contains(at) {
					covered = true
					if n.tunnel != "" && !by[n.tunnel] {
						t.Fatalf("%v became %v: %s is not %s's", list, joined, at, n.tunnel)
					}
				}
			}
			if covered != (len(by) > 0) {
				t.Fatalf("%v became %v: %s is covered: %v", list, joined, at, covered)
			}
		}
	}
	if fewer < 300 {
		t.Errorf("only %d of 2000 lists became shorter", fewer)
	}
	for _, whole := range []string{"0.0.0.0/1", "::/1"} {
		p := netip.MustParsePrefix(whole)
		last := netip.MustParsePrefix("128.0.0.0/1")
		if p.Addr().Is6() {
			last = netip.MustParsePrefix("8000::/1")
		}
		if got := mergeNetworks([]tunnelNetwork{{prefix: p}, {prefix: last}}); len(got) != 2 {
			t.Errorf("the whole address space became %v", got)
		}
	}
}
