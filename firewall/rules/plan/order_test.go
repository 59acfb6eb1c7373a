package plan_test

import (
	"cmp"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
)

// There is one order of tables: that of the commits is that of the chains.
func TestTablesHaveOneOrder(t *testing.T) {
	rs := small(drop("10.1.0.0/16"))
	rs.Chains = append(rs.Chains, rules.Chain{Table: rules.NAT, Name: "XFRMFW-NAT", Rules: rules.ListOf(accept("10.2.0.0/16"))})
	rs.Hooks = append(rs.Hooks, rules.Hook{Table: rules.NAT, From: "POSTROUTING", To: "XFRMFW-NAT"})
	var committed []rules.Table
	for _, s := range mustPlan(t, &fake.Kernel{}, rs).Steps {
		committed = append(committed, s.Table)
	}
	byOrder := func(a, b rules.Table) int { return cmp.Compare(a.Order(), b.Order()) }
	if len(committed) != 3 || !slices.IsSortedFunc(committed, byOrder) {
		t.Errorf("tables are committed as %v", committed)
	}
	for _, rs := range compile.Compile(firewall.Input{Config: firewall.Config{Marks: firewall.DefaultMarks()}}).Rulesets {
		if !slices.IsSortedFunc(rs.Chains, func(a, b rules.Chain) int { return byOrder(a.Table, b.Table) }) {
			t.Errorf("%s: the chains of a rule set are in another order", rs.Family)
		}
	}
	if last := rules.Table("raw").Order(); last <= rules.Filter.Order() {
		t.Errorf("a table of others has place %d", last)
	}
}
