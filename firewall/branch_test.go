package firewall

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// A tree in which only what changed is made anew is the tree that is made of all.
func TestRenewedTreeIsTheTreeOfAll(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	chains, kept := 0, 0
	for round := range 40 {
		family := []Family{xfrm.IPv4, xfrm.IPv4, xfrm.IPv6}[round%3]
		d := dispatcher{family: family, table: Mangle, root: "XFRMFW-T", ordered: round%2 == 0, scratch: new(scratch)}
		entries := randomEntries(r, family, []int{0, 40, 400, 3000}[round%4])
		if round%5 == 0 { // a row of sites, whose guards are joined
			for i := range entries {
				entries[i] = inRow(i)
			}
		}
		d.in = func(list []entry, p netip.Prefix) []entry {
			for _, e := range entries {
				if e.key.Overlaps(p) {
					list = append(list, e)
				}
			}
			return list
		}
		space := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if family == xfrm.IPv6 {
			space = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		old := d.node(d.root, space, d.fetch(space), 0, nil, nil)
		for step := range 20 {
			var touched []netip.Prefix
			for range 1 + r.IntN(4)*r.IntN(4)*r.IntN(8) {
				at, e := r.IntN(len(entries)+1), randomEntries(r, family, 1)[0]
				if round%5 == 0 {
					e = inRow(r.IntN(len(entries) + 300))
				}
				switch {
				case r.IntN(2) == 0 || at == len(entries):
					e.rules[0].Tunnel = fmt.Sprint("new", step)
					entries = slices.Insert(slices.Clone(entries), at, e)
					touched = append(touched, e.key)
				default:
					touched = append(touched, entries[at].key)
					entries = slices.Delete(slices.Clone(entries), at, at+1)
				}
			}
			d.entries = nil
			now := d.renew(old, touched)
			all := d
			all.entries = nil
			want := all.node(d.root, space, all.fetch(space), 0, nil, nil)
			if got, want := now.chains(nil), want.chains(nil); !reflect.DeepEqual(got, want) {
				t.Fatalf("round %d, step %d: %d chains, want %d", round, step, len(got), len(want))
			}
			if !reflect.DeepEqual(now, want) {
				t.Fatalf("round %d, step %d: the same chains, but not known as they are", round, step)
			}
			chains += len(now.chains(nil))
			before := make(map[Chain]bool)
			for _, c := range old.chains(nil) {
				before[c] = true
			}
			for _, c := range now.chains(nil) {
				if before[c] {
					kept++
				}
			}
			old = now
		}
	}
	if kept < chains/2 {
		t.Errorf("only %d of %d chains were taken over", kept, chains)
	}
}

// inRow is a guard of one in a row of sites.
func inRow(n int) entry {
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 0}), 24)
	return entry{key: p, rules: []Rule{{Src: p, Target: drop(PurposeSpoof), Purpose: PurposeSpoofGuard, Tunnel: fmt.Sprint("t", n)}}}
}
