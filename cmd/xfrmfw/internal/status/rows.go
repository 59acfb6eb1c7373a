package status

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Rules are rules of ours with their counters, those of each tunnel together.
// They take longer to collect than the rest of a report.
type Rules struct {
	// all has those of one owner behind those of another, and each owner's in the
	// order of family, table and chain; places are where each comes in that order
	// among all.
	all    []Rule
	places []int32
	owners map[string]span
}

// span is where rules begin and end.
type span struct{ from, to int }

// of returns the rules of one tunnel.
func (r Rules) of(tunnel string) []Rule {
	at := r.owners[tunnel]
	return r.all[at.from:at.to:at.to]
}

// others returns the rules of none of these tunnels.
func (r Rules) others(tunnels map[string]bool) []Rule {
	var at []int
	for owner, span := range r.owners {
		for i := span.from; i < span.to && !tunnels[owner]; i++ {
			at = append(at, i)
		}
	}
	slices.SortFunc(at, func(a, b int) int { return cmp.Compare(r.places[a], r.places[b]) })
	rules := make([]Rule, len(at))
	for i, j := range at {
		rules[i] = r.all[j]
	}
	return rules
}

// collect makes the rules of rows, each with its tunnel. They are asked for twice.
func collect[T any](rows iter.Seq2[string, T], rule func(T) Rule) Rules {
	numbers := make(map[string]int32)
	var owners []int32
	var counts []int
	for owner := range rows {
		n, ok := numbers[owner]
		if !ok {
			n = int32(len(counts))
			numbers[owner], counts = n, append(counts, 0)
		}
		owners = append(owners, n)
		counts[n]++
	}
	r := Rules{all: make([]Rule, len(owners)), places: make([]int32, len(owners)), owners: make(map[string]span, len(counts))}
	next := make([]int, len(counts))
	for i := 1; i < len(counts); i++ {
		next[i] = next[i-1] + counts[i-1]
	}
	for owner, n := range numbers {
		r.owners[owner] = span{next[n], next[n] + counts[n]}
	}
	place := 0
	for _, row := range rows {
		at := &next[owners[place]]
		r.all[*at], r.places[*at] = rule(row), int32(place)
		*at++
		place++
	}
	return r
}

// Collect returns the rules in our chains, and our jumps. The programs print chains
// in the order in which they were made, so they are sorted here. Terse leaves out
// the text of the rules.
func Collect(have map[xfrm.Family]live.Tables, terse bool) Rules {
	var list []listed
	for _, family := range slices.Sorted(maps.Keys(have)) {
		tables := slices.Clone(have[family].Tables)
		slices.SortFunc(tables, func(a, b live.Table) int {
			return cmp.Or(cmp.Compare(a.Name.Order(), b.Name.Order()), cmp.Compare(a.Name, b.Name))
		})
		for _, t := range tables {
			chains := slices.Clone(t.Chains)
			slices.SortFunc(chains, func(a, b live.Chain) int { return cmp.Compare(a.Name, b.Name) })
			for _, c := range chains {
				list = append(list, listed{family.String(), t.Name, c})
			}
		}
	}
	type row struct {
		in   *listed
		rule *live.Rule
	}
	return collect(func(yield func(string, row) bool) {
		for i := range list {
			l := &list[i]
			ours := l.Ours()
			for j := range l.Rules {
				r := &l.Rules[j]
				if (ours || r.Jump()) && !yield(r.Tunnel, row{l, r}) {
					return
				}
			}
		}
	}, func(r row) Rule { return r.in.rule(r.rule, terse) })
}

// listed is a live chain with where it stands.
type listed struct {
	family string
	table  rules.Table
	live.Chain
}

func (l *listed) rule(r *live.Rule, terse bool) Rule {
	out := Rule{
		ID: r.ID, Family: l.family, Table: l.table, Chain: l.Name, Purpose: r.Purpose, Packets: r.Packets, Bytes: r.Bytes,
		Kind: countedAs(r.Purpose, r.Target == "DROP" || r.Target == "REJECT"),
	}
	if !terse {
		out.Rule = plan.WithoutComment(r.Raw)
	}
	return out
}

// compiled collects the rules of all rule sets, which are sorted already.
func compiled(rulesets []rules.Ruleset) Rules {
	type row struct {
		family xfrm.Family
		chain  rules.Chain
		rule   rules.Rule
	}
	return collect(func(yield func(string, row) bool) {
		for _, rs := range rulesets {
			for _, c := range rs.Chains {
				for _, r := range c.Rules.All() {
					if !yield(r.Tunnel, row{rs.Family, c, r}) {
						return
					}
				}
			}
		}
	}, func(r row) Rule {
		return Rule{
			ID:     rules.ID(r.family, r.chain.Table, r.chain.Name, r.rule),
			Family: r.family.String(), Table: r.chain.Table, Chain: r.chain.Name, Purpose: r.rule.Purpose, Rule: r.rule.Text(r.family),
		}
	})
}
