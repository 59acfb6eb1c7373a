package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Change is the steps from the live rules of all families to the wanted ones. The zero
// value changes nothing.
type Change struct {
	// Steps are run in this order; each is one atomic commit.
	Steps []Step
	// Differences are those that the steps mend, sorted by family, table and chain.
	Differences []Difference
	// Leftovers are differences that no step may mend, because they are not ours to touch.
	Leftovers []Difference
	// Drift is true if the wanted rules are those that were applied last, so that another
	// program has changed the live ones. Only a Tracker knows.
	Drift bool
	// former is the rules before.
	former map[xfrm.Family]standing
}

// Former returns the rules before the change, for Rollback. Rules that an earlier change
// of the same Tracker wrote are as they were sent.
func (c Change) Former() map[xfrm.Family]live.Tables {
	former := make(map[xfrm.Family]live.Tables, len(c.former))
	for family, s := range c.former {
		former[family] = s.save(family)
	}
	return former
}

// Empty reports whether nothing has to be done.
func (c Change) Empty() bool { return len(c.Steps) == 0 }

// Step is the text of one run of iptables-restore --noflush: one table of one
// family, so it takes effect wholly or not at all.
type Step struct {
	Family xfrm.Family
	Table  rules.Table
	Text   string
	// Counters says that the text carries counters and needs --counters.
	Counters bool
	Counts   Counts
}

// Counts says how much a step changes.
type Counts struct {
	// Written, Rules and Deleted count the chains that are rewritten or made,
	// their rules, and the chains that are deleted.
	Written, Rules, Deleted int
	// Jumps counts those inserted or deleted.
	Jumps int
}

// Make returns the change from the live rules to the wanted ones. A family that
// stands in have only, or a rule set without chains, loses all that is ours.
//
// A chain is rewritten if and only if the list of its rules' IDs differs, and
// then carries on the counters of the rules that stay. Builtin chains are never
// declared, as that would set their policy, and nothing foreign is touched.
//
// A program that plans again and again keeps a Tracker.
func Make(want []rules.Ruleset, have map[xfrm.Family]live.Tables) (Change, error) {
	var t Tracker
	t.Observed(have)
	return t.Plan(want)
}

// Clear plans the removal of all that is ours.
func Clear(have map[xfrm.Family]live.Tables) (Change, error) { return Make(nil, have) }

// ClearButGuards plans the removal of all accepts: our rules
// in mangle stay, where everything is judged and the guards drop.
func ClearButGuards(have map[xfrm.Family]live.Tables) (Change, error) {
	rest := make(map[xfrm.Family]live.Tables, len(have))
	for family, save := range have {
		save.Tables = slices.DeleteFunc(slices.Clone(save.Tables), func(t live.Table) bool { return t.Name == rules.Mangle })
		save.Unreadable = slices.DeleteFunc(slices.Clone(save.Unreadable), func(t rules.Table) bool { return t == rules.Mangle })
		rest[family] = save
	}
	return Make(nil, rest)
}

// Rollback returns the change from the live rules back to the former ones: our
// chains and jumps as they were printed then, with the counters of today where
// the rule still stands, in every family that both have.
func Rollback(former, now map[xfrm.Family]live.Tables) (Change, error) {
	wanted := make(map[xfrm.Family]wantedFamily, len(former))
	have := make(map[xfrm.Family]standing, len(former))
	for family, save := range former {
		if live, ok := now[family]; ok {
			wanted[family] = wantSaved(save)
			// A table that could not be read then is not known to have been absent.
			live.Unreadable = append(slices.Clip(live.Unreadable), save.Unreadable...)
			have[family] = standingOf(live)
		}
	}
	return plan(wanted, have, true)
}

// UnreadableError says that a table that we write to can't be read.
type UnreadableError struct {
	Family xfrm.Family
	Table  rules.Table
}

// Error names the table and the remedy.
func (e *UnreadableError) Error() string { return e.Seen() + ": " + e.Remedy() }

// Seen names the table and its rules.
func (e *UnreadableError) Seen() string {
	return fmt.Sprintf("%s table %s holds rules of nftables, or of a newer iptables, that this iptables can't read", e.Family, e.Table)
}

// Remedy is the command that lists the table, and the way to mend it.
func (e *UnreadableError) Remedy() string {
	word := "ip"
	if e.Family == xfrm.IPv6 {
		word = "ip6"
	}
	return fmt.Sprintf("see \"nft list table %s %s\", move foreign ones to a table of their own, and let the newest iptables write all others (a container may bring an older one)", word, e.Table)
}

// plan compares the wanted rules with the live ones. Back says that it is the way
// back, which has to pass by the same states as the way there.
func plan(wanted map[xfrm.Family]wantedFamily, have map[xfrm.Family]standing, back bool) (Change, error) {
	change := Change{former: have}
	var shrinking []Step
	for _, family := range slices.Sorted(maps.Keys(have)) {
		want, live := wanted[family], have[family]
		var steps []Step
		shrinks := back
		for _, name := range tableNames(want, live) {
			w := want[name]
			if slices.Contains(live.unreadable, name) {
				err := &UnreadableError{family, name}
				if len(w.chains) > 0 {
					return Change{}, fmt.Errorf("plan rules: %w", err)
				}
				change.Leftovers = append(change.Leftovers,
					Difference{Family: family, Table: name, Kind: TableUnreadable, Text: err.Error()})
				continue
			}
			d := differ{family: family, want: w, have: live.table(name), name: name}
			d.compare()
			if step, ok := d.step(); ok {
				steps = append(steps, step)
			}
			change.Differences = append(change.Differences, d.differences...)
			change.Leftovers = append(change.Leftovers, d.leftovers...)
			if name == rules.Filter && d.hadJumps != (len(w.jumps) > 0) {
				shrinks = d.hadJumps
			}
		}
		if shrinks {
			slices.Reverse(steps)
			shrinking = append(shrinking, steps...)
		} else {
			change.Steps = append(change.Steps, steps...)
		}
	}
	// A rule that accepts on a verdict must not stand without the rules that reach it, and no
	// tunnel traffic is let through before it is exempted from NAT. So mangle
	// comes first, in every family before any other table, and goes last.
	slices.SortStableFunc(shrinking, func(a, b Step) int { return b.Table.Order() - a.Table.Order() })
	slices.SortStableFunc(change.Steps, func(a, b Step) int { return a.Table.Order() - b.Table.Order() })
	change.Steps = append(shrinking, change.Steps...)
	return change, nil
}

// tableNames are the tables to look at, in the order of commits.
func tableNames(want wantedFamily, live standing) []rules.Table {
	var names []rules.Table
	for name := range want {
		names = append(names, name)
	}
	for _, t := range live.tables {
		names = append(names, t.name)
	}
	for _, t := range live.unreadable {
		if t.Ours() {
			names = append(names, t)
		}
	}
	slices.SortFunc(names, func(a, b rules.Table) int {
		return cmp.Or(a.Order()-b.Order(), cmp.Compare(a, b))
	})
	return slices.Compact(names)
}
