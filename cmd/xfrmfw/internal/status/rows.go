package status

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
)

// row is a rule with what decides where it is shown and counted.
type row struct {
	Rule
	tunnel string
}

// rows yields all rules of ours: the live ones, or those that were compiled.
func rows(in Input) iter.Seq[row] {
	if in.Live != nil {
		return liveRows(in.Live)
	}
	return compiledRows(in.Result.Rulesets)
}

// liveRows yields the rules in our chains, and our jumps, by family, table and
// chain. The programs print chains in the order in which they were made, so
// they are sorted here.
func liveRows(live map[firewall.Family]firewall.Save) iter.Seq[row] {
	return func(yield func(row) bool) {
		for _, family := range slices.Sorted(maps.Keys(live)) {
			tables := slices.Clone(live[family].Tables)
			slices.SortFunc(tables, func(a, b firewall.SavedTable) int {
				return cmp.Or(cmp.Compare(tableRank(a.Name), tableRank(b.Name)), cmp.Compare(a.Name, b.Name))
			})
			for _, t := range tables {
				chains := slices.Clone(t.Chains)
				slices.SortFunc(chains, func(a, b firewall.SavedChain) int { return cmp.Compare(a.Name, b.Name) })
				for _, c := range chains {
					for _, r := range c.Rules {
						if !c.Ours() && !r.Jump() {
							continue
						}
						if !yield(liveRow(family, t.Name, c.Name, r)) {
							return
						}
					}
				}
			}
		}
	}
}

func liveRow(family firewall.Family, table firewall.Table, chain string, r firewall.SavedRule) row {
	return row{
		Rule: Rule{
			ID: r.ID, Family: family.String(), Table: table, Chain: chain, Purpose: r.Purpose,
			Rule: firewall.WithoutComment(r.Raw), Packets: r.Packets, Bytes: r.Bytes,
			Kind: countedAs(r.Purpose, r.Target == "DROP" || r.Target == "REJECT"),
		},
		tunnel: r.Tunnel,
	}
}

// compiledRows yields the rules of all rule sets, which are sorted already.
func compiledRows(rulesets []firewall.Ruleset) iter.Seq[row] {
	return func(yield func(row) bool) {
		for _, rs := range rulesets {
			for _, c := range rs.Chains {
				for _, r := range c.Rules.All() {
					shown := Rule{
						ID:     firewall.ID(rs.Family, c.Table, c.Name, r),
						Family: rs.Family.String(), Table: c.Table, Chain: c.Name, Purpose: r.Purpose, Rule: r.Text(rs.Family),
					}
					if !yield(row{Rule: shown, tunnel: r.Tunnel}) {
						return
					}
				}
			}
		}
	}
}

// tableRank orders tables as a rule set does; tables without rules of ours last.
func tableRank(t firewall.Table) int {
	tables := [...]firewall.Table{firewall.Mangle, firewall.Filter, firewall.NAT}
	if i := slices.Index(tables[:], t); i >= 0 {
		return i
	}
	return len(tables)
}
