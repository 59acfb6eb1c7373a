package tree

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// tracedTunnels are the tunnels of the rules that a packet from src meets.
func tracedTunnels(chains []rules.Chain, src netip.Addr) []string {
	e := trace.NewEvaluator(rules.Ruleset{Chains: chains, Hooks: []rules.Hook{{Table: rules.Mangle, From: "PREROUTING", To: "XFRMFW-T"}}})
	_, _, steps := e.Trace(rules.Mangle, "PREROUTING", trace.Packet{Src: src, Dst: src})
	var names []string
	for _, s := range steps {
		if s.Rule.Tunnel != "" {
			names = append(names, s.Rule.Tunnel)
		}
	}
	return names
}

func randomEntries(r *rand.Rand, family xfrm.Family, n int) []Entry {
	entries := make([]Entry, n)
	for i := range entries {
		p := randomPrefix(r, family)
		entries[i] = Entry{Key: p, Rules: []rules.Rule{{Src: p, Tunnel: fmt.Sprintf("t%d", i)}}}
	}
	return entries
}

// randomPrefix favours prefixes that are near each other, nested and equal.
func randomPrefix(r *rand.Rand, family xfrm.Family) netip.Prefix {
	if family == xfrm.IPv6 {
		a := [16]byte{0: 0xfd, 1: byte(r.IntN(2)), 7: byte(r.IntN(256)), 15: byte(r.IntN(4))}
		return netip.PrefixFrom(netip.AddrFrom16(a), []int{0, 8, 16, 60, 64, 64, 64, 128}[r.IntN(8)]).Masked()
	}
	a := [4]byte{10, byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(256))}
	return netip.PrefixFrom(netip.AddrFrom4(a), []int{0, 8, 15, 22, 24, 24, 24, 24, 30, 32, 32}[r.IntN(11)]).Masked()
}

// A packet meets in the tree exactly the entries, in exactly the order, that it
// would meet in one long chain.
func TestTreeEqualsOneChain(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
		for _, n := range []int{0, 1, leafSize, leafSize + 1, 100, 1000} {
			entries := randomEntries(r, family, n)
			chains := treeOf(entries)
			for range 300 {
				src := randomPrefix(r, family).Addr()
				var want []string
				for _, e := range entries {
					if e.Key.Contains(src) {
						want = append(want, e.Rules[0].Tunnel)
					}
				}
				if got := tracedTunnels(chains, src); !slices.Equal(got, want) {
					t.Fatalf("%s, %d entries, from %s: met %v, want %v", family, n, src, got, want)
				}
			}
		}
	}
}

// The longest way that any packet can go through the tree stays flat.
func TestTreeStaysFlat(t *testing.T) {
	sites := func(n int) []Entry {
		entries := make([]Entry, n)
		for i := range entries {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
			entries[i] = Entry{Key: p, Rules: []rules.Rule{{Src: p}, {Src: p}}}
		}
		return entries
	}
	for _, n := range []int{10, 1000, 10000, 60000} {
		chains := treeOf(sites(n))
		longest := make(map[string]int)
		for _, c := range slices.Backward(chains) {
			longest[c.Name] = c.Rules.Len()
			for i, r := range c.Rules.All() {
				if r.Target.Verb == rules.Goto {
					longest[c.Name] = max(longest[c.Name], i+1+longest[r.Target.Chain])
				}
			}
		}
		if got := longest["XFRMFW-T"]; got > 120 {
			t.Errorf("%d tunnels: a packet may meet %d rules", n, got)
		}
		if len(chains) > n/4+1 {
			t.Errorf("%d tunnels take %d chains", n, len(chains))
		}
	}
}

// One tunnel more changes the chains on its way and no others.
func TestTreeChangesLocally(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	entries := randomEntries(r, xfrm.IPv4, 5000)
	entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.Key.Bits() < 22 })
	before := map[string]rules.List{}
	for _, c := range treeOf(entries[1:]) {
		before[c.Name] = c.Rules
	}
	changed, rules := 0, 0
	for _, c := range treeOf(entries) {
		if !before[c.Name].Equal(c.Rules) {
			changed++
			rules += c.Rules.Len()
		}
	}
	if changed == 0 || changed > 12 || rules > 400 {
		t.Errorf("one entry more rewrites %d chains with %d rules", changed, rules)
	}
}

// However many tunnels claim the whole address space, the rules stay few.
func TestTreeOfWideEntriesDoesNotExplode(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	entries := randomEntries(r, xfrm.IPv4, 4000)
	for i := range entries {
		if i%2 == 0 {
			entries[i].Key = netip.MustParsePrefix("10.0.0.0/8")
			entries[i].Rules[0].Src = entries[i].Key
		}
	}
	total := 0
	for _, c := range treeOf(entries) {
		total += c.Rules.Len()
	}
	if total > 10*len(entries) {
		t.Errorf("%d entries became %d rules", len(entries), total)
	}
}

// treeOf is a tree by source with entries in order.
func treeOf(entries []Entry) []rules.Chain {
	return Build(Spec{Table: rules.Mangle, Root: "XFRMFW-T", By: BySource}, entries)
}
