package main

import (
	"fmt"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
)

// walker counts the rules that a packet meets, whether they match or not: it is
// their number that a packet pays for.
type walker struct {
	rs     rules.Ruleset
	chains map[walked][]rules.Rule
}

type walked struct {
	table rules.Table
	name  string
}

func newWalker(rs rules.Ruleset) walker {
	w := walker{rs: rs, chains: make(map[walked][]rules.Rule)}
	for _, c := range rs.Chains {
		w.chains[walked{c.Table, c.Name}] = c.Rules.Slice()
	}
	return w
}

// at runs a packet through our part of a builtin chain. It returns how many
// rules it met there, the mark that it has then, and whether it got through.
func (w walker) at(table rules.Table, hook string, p trace.Packet) (int, uint32, bool) {
	met := 0
	for _, h := range w.rs.Hooks {
		if h.Table == table && h.From == hook {
			met++
			v := w.run(walked{table, h.To}, &p, &met)
			return met, p.Mark, v != rules.Drop && v != rules.Reject
		}
	}
	return 0, p.Mark, true
}

func (w walker) run(at walked, p *trace.Packet, met *int) rules.Verb {
	for _, r := range w.chains[at] {
		*met++
		if !trace.Matches(r, *p) {
			continue
		}
		switch t := r.Target; t.Verb {
		case rules.Accept, rules.Drop, rules.Reject, rules.Return:
			return t.Verb
		case rules.SetMark:
			p.Mark = p.Mark&^t.Mask ^ t.Value
		case rules.Goto:
			return w.run(walked{at.table, t.Chain}, p, met)
		case rules.Jump:
			if v := w.run(walked{at.table, t.Chain}, p, met); v != rules.Return {
				return v
			}
		}
	}
	return rules.Return
}

// way is where a packet passes our rules, hook by hook.
type way struct {
	packet trace.Packet
	hooks  []hook
}

type hook struct {
	table rules.Table
	name  string
}

var (
	ins      = []hook{{rules.Mangle, "PREROUTING"}, {rules.Mangle, "INPUT"}, {rules.Filter, "INPUT"}}
	forwards = []hook{
		{rules.Mangle, "PREROUTING"}, {rules.Mangle, "FORWARD"}, {rules.Filter, "FORWARD"},
		{rules.Mangle, "POSTROUTING"}, {rules.NAT, "POSTROUTING"},
	}
	outs = []hook{{rules.Filter, "OUTPUT"}, {rules.Mangle, "POSTROUTING"}}
)

// pass runs a packet through its hooks, and tells of each how many rules it met
// there, until one drops it.
func (w walker) pass(ways []way, tell func(hook, int)) (through bool) {
	for _, y := range ways {
		p := y.packet
		for _, h := range y.hooks {
			if h.table == rules.NAT && p.Ct.State&rules.CtEstablished != 0 {
				continue // asked once for each flow
			}
			n, mark, through := w.at(h.table, h.name, p)
			tell(h, n)
			if !through {
				return false
			}
			p.Mark = mark
		}
	}
	return true
}

// met is how many rules a packet meets in all, and whether it gets through.
func (w walker) met(ways []way) (met int, through bool) {
	through = w.pass(ways, func(_ hook, n int) { met += n })
	return met, through
}

// told says how many rules a packet meets, in all and at each hook.
func (w walker) told(ways []way) string {
	total := 0
	var words []string
	if !w.pass(ways, func(h hook, n int) {
		total += n
		words = append(words, fmt.Sprintf("%s %s %d", h.table, h.name, n))
	}) {
		words = append(words, "dropped")
	}
	return fmt.Sprintf("%d rules: %s", total, strings.Join(words, ", "))
}
