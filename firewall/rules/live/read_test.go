package live_test

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
)

// All rules of random gateways are read back from their own words, and a rule that was
// changed is not.
func TestStanding(t *testing.T) {
	for seed := range uint64(10) {
		for _, want := range compile.Rulesets(decide.Facts(fake.Gateway(rand.New(rand.NewPCG(seed, 4242))))) {
			var have live.Tables
			for _, name := range []rules.Table{rules.Mangle, rules.Filter, rules.NAT} {
				table := live.Table{Name: name}
				for _, c := range want.Chains {
					if c.Table != name {
						continue
					}
					chain := live.Chain{Name: c.Name, Policy: "-"}
					for _, r := range c.Rules.All() {
						rule := live.Rule{Raw: string(rules.AppendLine(nil, want.Family, name, c.Name, r))}
						if !rule.ReadWords() {
							t.Fatalf("no words: %s", rule.Raw)
						}
						chain.Rules = append(chain.Rules, rule)
					}
					table.Chains = append(table.Chains, chain)
				}
				have.Tables = append(have.Tables, table)
			}
			got, unread := live.Standing(want.Family, have)
			if len(unread) > 0 {
				t.Fatalf("seed %d: %d unread, such as %+v", seed, len(unread), unread[0])
			}
			if diff := cmp.Diff(texts(want), texts(got)); diff != "" {
				t.Fatalf("seed %d: %s", seed, diff)
			}
			changed := 0
			for _, c := range have.Tables[0].Chains {
				for i := range c.Rules {
					c.Rules[i].Raw += " -i eth9"
					changed++
				}
			}
			if _, unread := live.Standing(want.Family, have); len(unread) != changed {
				t.Fatalf("seed %d: %d of %d changed rules were read", seed, changed-len(unread), changed)
			}
		}
	}
}

func texts(rs rules.Ruleset) map[string][]string {
	all := make(map[string][]string)
	for _, c := range rs.Chains {
		key := string(c.Table) + " " + c.Name
		all[key] = nil
		for _, r := range c.Rules.All() {
			all[key] = append(all[key], r.Text(rs.Family))
		}
	}
	return all
}
