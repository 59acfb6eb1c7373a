package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Difference is one point in which the live rules are not the wanted ones.
type Difference struct {
	Family xfrm.Family
	Table  rules.Table
	Chain  string
	Kind   DifferenceKind
	// Text is the rule that it is about, without "-A CHAIN", or empty.
	Text string
}

// String returns the difference as one line.
func (d Difference) String() string {
	where := fmt.Sprintf("%s %s", d.Family, d.Table)
	if d.Chain != "" {
		where += " " + d.Chain
	}
	if d.Text == "" {
		return fmt.Sprintf("%s: %s", where, d.Kind)
	}
	return fmt.Sprintf("%s: %s: %s", where, d.Kind, d.Text)
}

// DifferenceKind is the kind of a difference of the live rules.
type DifferenceKind string

// The kinds of differences. ChainReferenced and TableUnreadable are only found
// among leftovers.
const (
	ChainMissing    DifferenceKind = "chain missing"
	ChainUnexpected DifferenceKind = "chain unexpected"
	RuleMissing     DifferenceKind = "rule missing"
	RuleUnexpected  DifferenceKind = "rule unexpected"
	RulesDisordered DifferenceKind = "rules in another order"
	JumpMissing     DifferenceKind = "jump missing"
	JumpUnexpected  DifferenceKind = "jump unexpected"
	JumpDuplicate   DifferenceKind = "jump more than once"
	JumpNotFirst    DifferenceKind = "jump not first"
	// ChainReferenced is an empty chain of ours that can't be deleted, since a
	// foreign rule leads to it.
	ChainReferenced DifferenceKind = "chain kept for a foreign rule"
	TableUnreadable DifferenceKind = "table unreadable"
)

// differ compares one table.
type differ struct {
	family xfrm.Family
	name   rules.Table
	want   wantedTable
	have   standingTable

	write  []wantedChain
	stale  []string
	delete []string
	// remove and insert are ready to be sent, but for the counters of the latter.
	remove   []string
	insert   []line
	jumps    int
	counters bool
	hadJumps bool

	differences, leftovers []Difference
}

func (d *differ) compare() {
	live := make(map[string]*standingChain, len(d.have.chains))
	foreign := make(map[string]string)
	for i := range d.have.chains {
		c := &d.have.chains[i]
		live[c.Name] = c
		if c.Ours() {
			continue
		}
		for _, r := range c.Rules {
			switch {
			case r.Jump():
				d.hadJumps = true
			case rules.Ours(r.Target):
				foreign[r.Target] = "-A " + c.Name + " " + r.Raw
			}
		}
	}
	wanted := make(map[string]bool, len(d.want.chains))
	for i := range d.want.chains {
		c := d.want.chains[i]
		wanted[c.name] = true
		d.chain(c, live[c.name])
	}
	for i := range d.have.chains {
		if c := &d.have.chains[i]; c.Ours() && !wanted[c.Name] {
			d.staleChain(c, foreign[c.Name])
		}
	}
	d.allJumps()
	slices.SortStableFunc(d.differences, func(a, b Difference) int { return cmp.Compare(a.Chain, b.Chain) })
}

func (d *differ) note(chain string, kind DifferenceKind, text string) {
	d.differences = append(d.differences, Difference{d.family, d.name, chain, kind, text})
}

// staleChain empties a chain that is no longer wanted, and deletes it unless
// the foreign rule leads to it.
func (d *differ) staleChain(have *standingChain, foreign string) {
	c := have.saved(d.family, d.name)
	if foreign == "" || len(c.Rules) > 0 {
		d.stale = append(d.stale, c.Name)
		d.note(c.Name, ChainUnexpected, "")
		for _, r := range c.Rules {
			d.note(c.Name, RuleUnexpected, r.Raw)
		}
	}
	if foreign == "" {
		d.delete = append(d.delete, c.Name)
	} else {
		d.leftovers = append(d.leftovers, Difference{d.family, d.name, c.Name, ChainReferenced, foreign})
	}
}

// chain compares a wanted chain with the live one, nil if there is none.
func (d *differ) chain(want wantedChain, found *standingChain) {
	var have live.Chain
	switch {
	case found == nil:
		d.note(want.name, ChainMissing, "")
	case d.same(&want, found):
		return
	default:
		have = found.saved(d.family, d.name)
	}
	want.render()
	d.write = append(d.write, want)
	// Rules that stay keep their counters. Equal rules are told apart by their
	// order: first and next chain the live rules of each key.
	first := make(map[string]int, len(have.Rules))
	next := make([]int, len(have.Rules))
	for i := len(have.Rules) - 1; i >= 0; i-- {
		key := d.key(have.Rules[i])
		next[i] = first[key]
		first[key] = i + 1
	}
	stays := make([]bool, len(have.Rules))
	differs := len(have.Rules) == 0
	for i := range want.lines {
		l := &want.lines[i]
		if at := first[l.key]; at > 0 {
			r := have.Rules[at-1]
			first[l.key], stays[at-1] = next[at-1], true
			l.packets, l.bytes = r.Packets, r.Bytes
		} else {
			d.note(want.name, RuleMissing, l.text)
			differs = true
		}
		d.counters = d.counters || l.packets|l.bytes != 0
	}
	for i, r := range have.Rules {
		if !stays[i] {
			d.note(want.name, RuleUnexpected, r.Raw)
			differs = true
		}
	}
	if !differs {
		d.note(want.name, RulesDisordered, "")
	}
}

func (d *differ) key(r live.Rule) string {
	if d.want.verbatim {
		return r.Raw
	}
	return r.ID
}

func (d *differ) same(want *wantedChain, have *standingChain) bool {
	switch {
	case have.compact != nil:
		return want.known != nil && want.known.ids == have.compact.ids
	case want.known != nil:
		return want.known.same(have.Rules)
	case len(want.lines) != len(have.Rules):
		return false
	}
	for i := range have.Rules {
		if want.lines[i].key != d.key(have.Rules[i]) {
			return false
		}
	}
	return true
}

// step renders the differences that compare found.
func (d *differ) step() (Step, bool) {
	if len(d.write)+len(d.stale)+len(d.delete)+len(d.remove)+len(d.insert) == 0 {
		return Step{}, false
	}
	var b strings.Builder
	var buf []byte
	put := func(words ...string) {
		for _, w := range words {
			b.WriteString(w)
		}
		b.WriteByte('\n')
	}
	counts := Counts{Written: len(d.write), Deleted: len(d.delete), Jumps: d.jumps}
	size := 0
	for _, c := range d.write {
		counts.Rules += len(c.lines)
		for _, l := range c.lines {
			size += len(l.text) + len(c.name) + 16
		}
	}
	b.Grow(size + 40*(len(d.write)+len(d.stale)) + 256)

	put("*", string(d.name))
	// A declared chain is made, or emptied where it stands.
	for _, c := range d.write {
		put(":", c.name, " - [0:0]")
	}
	for _, name := range d.stale {
		put(":", name, " - [0:0]")
	}
	for _, c := range d.write {
		for _, l := range c.lines {
			buf = buf[:0]
			if d.counters {
				buf = append(live.AppendCounters(buf, l.packets, l.bytes), ' ')
			}
			buf = append(live.AppendAdd(buf, c.name, l.text), '\n')
			b.Write(buf)
		}
	}
	for _, line := range d.remove {
		put(line)
	}
	// iptables refuses counters with -D and takes an -I without.
	for _, l := range d.insert {
		if l.packets|l.bytes != 0 {
			put(string(live.AppendCounters(buf[:0], l.packets, l.bytes)), " ", l.text)
		} else {
			put(l.text)
		}
	}
	for _, name := range d.delete {
		put("-X ", name)
	}
	put("COMMIT")
	return Step{d.family, d.name, b.String(), d.counters, counts}, true
}
