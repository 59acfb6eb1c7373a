package nftables

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
)

// The tables of random gateways load, are read back equal, and each leads to the next by
// a change of the differing parts.
func TestProgramsOfRandomGateways(t *testing.T) {
	c := open(t)
	seeds := uint64(40)
	if testing.Short() {
		seeds = 10
	}
	host := program.Host{
		Bridges: []program.Bridge{{Name: "br0", MAC: [6]byte{2, 0, 0, 0, 0, 1}}},
	}
	compared := 0
	for seed := range seeds {
		_, in := fake.Variety(seed)
		in.Config.Enforce = seed%3 == 0
		f := firewall.Decide(in)
		want := program.Table(&f, host)
		s := read(t, c)
		change := sets.Diff(s.Table, want)
		if _, err := c.Apply(s, change, want); err != nil {
			t.Fatalf("seed %d: %v\n%s\n%s", seed, err, change, s.Table)
		}
		got := read(t, c)
		if diff := cmp.Diff(withoutCounts(bare(want)), withoutCounts(bare(got.Table))); diff != "" {
			t.Fatalf("seed %d: wanted -, read +:\n%s", seed, diff)
		}
		if change := sets.Diff(got.Table, want); !change.Empty() {
			t.Fatalf("seed %d: a second time there is a change:\n%s", seed, change)
		}
		// As text it is the same to nft, which in a user namespace can't send much.
		if readable := withoutFlowPorts(want); seed%10 == 0 && len(readable.String()) < 40_000 {
			compared++
			apply(t, c, sets.Table{}) // nft lists in the order of making
			apply(t, c, readable)
			byNetlink := list(t)
			apply(t, c, sets.Table{})
			nft(t, readable.String(), "-f", "-")
			if diff := cmp.Diff(list(t), byNetlink); diff != "" {
				t.Fatalf("seed %d: as text -, by netlink +:\n%s", seed, diff)
			}
		}
	}
	if compared == 0 {
		t.Error("no table was compared as text")
	}
}

// withoutFlowPorts leaves out rules with ports of a connection, which nft 1.0.6
// does not read as it writes them.
func withoutFlowPorts(t sets.Table) sets.Table {
	t = bare(t)
	for i := range t.Chains {
		t.Chains[i].Rules = slices.DeleteFunc(t.Chains[i].Rules, func(r sets.Rule) bool { return strings.Contains(r.String(), "proto-") })
	}
	return t
}
