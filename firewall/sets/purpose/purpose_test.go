package purpose

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
)

// Each set, and each chain with a counter, has a purpose; and each purpose has a set or a
// chain on one of these gateways.
func TestNamesHavePurposes(t *testing.T) {
	var gateways []firewall.Input
	for seed := range uint64(120) {
		gateways = append(gateways, fake.Gateway(rand.New(rand.NewPCG(seed, 4242))))
	}
	for _, f := range fake.Faults() {
		gateways = append(gateways, f.Input)
	}
	used := make(map[string]bool)
	for _, in := range gateways {
		f := decide.Facts(in)
		table := program.Table(&f, program.Options{})
		for i := range table.Sets {
			name := table.Sets[i].Name
			if _, ok := OfSet(name); !ok {
				t.Errorf("set %s has no purpose", name)
			}
			used[stem(name)] = true
		}
		for _, c := range table.Chains {
			if !slices.ContainsFunc(c.Rules, func(r sets.Rule) bool { return slices.Contains(r.Terms, sets.Term(sets.Counter{})) }) {
				continue
			}
			if _, ok := OfChain(c.Name); !ok {
				t.Errorf("chain %s counts and has no purpose", c.Name)
			}
			used[stem(c.Name)] = true
		}
	}
	for name := range chainPurposes() {
		if !used[name] {
			t.Errorf("no chain has the name %s", name)
		}
	}
	for name := range setPurposes() {
		if !used[name] {
			t.Errorf("no set has the name %s", name)
		}
	}
}
