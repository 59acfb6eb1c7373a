package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// ChainChange is the part of a change in one chain, for a person to read.
type ChainChange struct {
	Family xfrm.Family
	Table  rules.Table
	Chain  string
	Kind   ChainChangeKind
	// Lines are in the order of the chain after the change. A removed line keeps its old
	// place.
	Lines []LineChange
}

// ChainChangeKind is the kind of change to a chain.
type ChainChangeKind string

// The kinds. In a builtin chain only our jumps are compared.
const (
	ChainNew     ChainChangeKind = "new chain"
	ChainGone    ChainChangeKind = "chain deleted"
	ChainEmptied ChainChangeKind = "chain emptied, kept for a rule of others"
	ChainChanged ChainChangeKind = "chain"
	ChainJumps   ChainChangeKind = "builtin chain"
)

// LineChange is one rule that comes, goes or moves.
type LineChange struct {
	Op LineOp
	// Text is the rule as iptables has it, without "-A CHAIN" and our comment.
	Text    string
	Purpose rules.Purpose
	Tunnel  string
	// From and To are its places in the chain before and after, from 1; 0 for none.
	From, To int
}

// LineOp is the kind of change to a rule.
type LineOp string

// The operations.
const (
	LineAdded   LineOp = "+"
	LineRemoved LineOp = "-"
	LineMoved   LineOp = ">"
)

// Compare lists the changes that Plan would make, by family, table and chain. It leaves
// out unchanged chains, and tables that can't be read.
func Compare(want []rules.Ruleset, have map[xfrm.Family]live.Tables) []ChainChange {
	wanted := make(map[xfrm.Family]wantedFamily, len(want))
	for _, rs := range want {
		wanted[rs.Family] = wantRuleset(rs, func(_ xfrm.Family, c rules.Chain) *knownChain { return &knownChain{rules: c.Rules} })
	}
	var all []ChainChange
	for _, family := range slices.Sorted(maps.Keys(have)) {
		save := have[family]
		for _, name := range tableNames(wanted[family], standingOf(save)) {
			if slices.Contains(save.Unreadable, name) {
				continue
			}
			all = append(all, compareTable(family, name, wanted[family][name], save.Table(name))...)
		}
	}
	return all
}

func compareTable(family xfrm.Family, table rules.Table, want wantedTable, have live.Table) []ChainChange {
	var all []ChainChange
	add := func(chain string, kind ChainChangeKind, lines []LineChange) {
		if len(lines) > 0 || kind != ChainChanged && kind != ChainJumps {
			all = append(all, ChainChange{family, table, chain, kind, lines})
		}
	}
	live := make(map[string]live.Chain, len(have.Chains))
	for _, c := range have.Chains {
		live[c.Name] = c
	}
	jumps := make(map[string][]line)
	for _, j := range want.jumps {
		jumps[j.from] = append(jumps[j.from], j.line)
	}
	foreign := make(map[string]bool)
	for _, c := range have.Chains {
		for _, r := range c.Rules {
			if !c.Ours() && !r.Jump() {
				foreign[r.Target] = true
			}
		}
	}
	for _, c := range have.Chains {
		if !c.Ours() {
			add(c.Name, ChainJumps, compareJumps(jumps[c.Name], c.Rules))
			delete(jumps, c.Name)
		}
	}
	for _, from := range slices.Sorted(maps.Keys(jumps)) {
		add(from, ChainJumps, compareJumps(jumps[from], nil))
	}
	standing := make(map[string]bool)
	for _, c := range want.chains {
		standing[c.name] = true
		old, ok := live[c.name]
		kind := ChainNew
		if ok {
			kind = ChainChanged
		}
		add(c.name, kind, compareLines(c.lines, old.Rules))
	}
	for _, c := range have.Chains {
		switch {
		case !c.Ours() || standing[c.Name]:
		case foreign[c.Name]:
			if len(c.Rules) > 0 {
				add(c.Name, ChainEmptied, compareLines(nil, c.Rules))
			}
		default:
			add(c.Name, ChainGone, compareLines(nil, c.Rules))
		}
	}
	slices.SortStableFunc(all, func(a, b ChainChange) int { return strings.Compare(a.Chain, b.Chain) })
	return all
}

// compareJumps compares our jumps among the rules of a builtin chain. They are
// to stand first.
func compareJumps(want []line, have []live.Rule) []LineChange {
	var lines []LineChange
	stands := make(map[string]bool)
	for i, r := range have {
		if !r.Jump() {
			continue
		}
		at := slices.IndexFunc(want, func(l line) bool { return l.key == r.ID })
		change := LineChange{Op: LineRemoved, Text: WithoutComment(r.Raw), Purpose: r.Purpose, From: i + 1}
		if at >= 0 && !stands[r.ID] {
			stands[r.ID] = true
			if at == i {
				continue
			}
			change.Op, change.To = LineMoved, at+1
		}
		lines = append(lines, change)
	}
	for i, l := range want {
		if !stands[l.key] {
			lines = append(lines, l.change(LineAdded, 0, i+1))
		}
	}
	return lines
}

// change describes a wanted line.
func (l line) change(op LineOp, from, to int) LineChange {
	_, purpose, tunnel, _ := rules.ParseComment(l.text[commentAt(l.text):])
	return LineChange{op, WithoutComment(l.text), purpose, tunnel, from, to}
}

// compareLines compares the rules of one of our chains.
func compareLines(want []line, have []live.Rule) []LineChange {
	stays := longest(want, have)
	// A rule in both, but not in the same order, has moved.
	from := make(map[string][]int)
	for j, r := range have {
		if !stays.old[j] {
			from[r.ID] = append(from[r.ID], j)
		}
	}
	moved := make(map[int]int) // old place of a wanted line
	taken := make(map[int]bool)
	for i, l := range want {
		if places := from[l.key]; !stays.new[i] && len(places) > 0 {
			moved[i], taken[places[0]] = places[0], true
			from[l.key] = places[1:]
		}
	}
	var lines []LineChange
	j := 0
	gone := func(until int) {
		for ; j < until; j++ {
			if r := have[j]; !stays.old[j] && !taken[j] {
				lines = append(lines, LineChange{LineRemoved, WithoutComment(r.Raw), r.Purpose, r.Tunnel, j + 1, 0})
			}
		}
	}
	for i, l := range want {
		for j < len(have) && !stays.old[j] {
			gone(j + 1)
		}
		switch old, was := moved[i]; {
		case stays.new[i]:
			j++
		case was:
			lines = append(lines, l.change(LineMoved, old+1, i+1))
		default:
			lines = append(lines, l.change(LineAdded, 0, i+1))
		}
	}
	gone(len(have))
	return lines
}

// common tells which lines of both lists stay where they are.
type common struct{ new, old []bool }

// tooLong bounds the work for chains that differ in very many lines. Beyond it, differing
// lines are shown as moved, or as removed and added.
const tooLong = 4_000_000

// longest finds the longest common sequence of two lists.
func longest(want []line, have []live.Rule) common {
	c := common{make([]bool, len(want)), make([]bool, len(have))}
	begin, endNew, endOld := 0, len(want), len(have)
	same := func(i, j int) bool { return want[i].key == have[j].ID }
	for begin < endNew && begin < endOld && same(begin, begin) {
		c.new[begin], c.old[begin] = true, true
		begin++
	}
	for endNew > begin && endOld > begin && same(endNew-1, endOld-1) {
		endNew--
		endOld--
		c.new[endNew], c.old[endOld] = true, true
	}
	n, m := endNew-begin, endOld-begin
	if n*m == 0 || n*m > tooLong {
		return c
	}
	length := make([]int32, (n+1)*(m+1))
	at := func(i, j int) *int32 { return &length[i*(m+1)+j] }
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if same(begin+i, begin+j) {
				*at(i, j) = *at(i+1, j+1) + 1
			} else {
				*at(i, j) = max(*at(i+1, j), *at(i, j+1))
			}
		}
	}
	for i, j := 0, 0; i < n && j < m; {
		switch {
		case same(begin+i, begin+j):
			c.new[begin+i], c.old[begin+j] = true, true
			i, j = i+1, j+1
		case *at(i+1, j) >= *at(i, j+1):
			i++
		default:
			j++
		}
	}
	return c
}

// WithoutComment takes our comment out of a rule's text.
func WithoutComment(raw string) string {
	const option = "-m comment --comment "
	before, after, ok := strings.Cut(raw, option)
	if !ok {
		return raw
	}
	comment, rest, _ := strings.Cut(after, " ")
	if _, _, _, ours := rules.ParseComment(strings.Trim(comment, `"`)); !ours {
		return raw
	}
	return strings.TrimSuffix(before+rest, " ")
}
