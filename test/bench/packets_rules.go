package main

import (
	"fmt"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
)

// walker counts the rules that a packet meets, whether they match or not: it is
// their number that a packet pays for.
type walker struct {
	rs     firewall.Ruleset
	chains map[walked][]firewall.Rule
}

type walked struct {
	table firewall.Table
	name  string
}

func newWalker(rs firewall.Ruleset) walker {
	w := walker{rs: rs, chains: make(map[walked][]firewall.Rule)}
	for _, c := range rs.Chains {
		w.chains[walked{c.Table, c.Name}] = c.Rules.Slice()
	}
	return w
}

// at runs a packet through our part of a builtin chain. It returns how many
// rules it met there, the mark that it has then, and whether it got through.
func (w walker) at(table firewall.Table, hook string, p firewall.Packet) (int, uint32, bool) {
	met := 0
	for _, h := range w.rs.Hooks {
		if h.Table == table && h.From == hook {
			met++
			v := w.run(walked{table, h.To}, &p, &met)
			return met, p.Mark, v != firewall.Drop && v != firewall.Reject
		}
	}
	return 0, p.Mark, true
}

func (w walker) run(at walked, p *firewall.Packet, met *int) firewall.Verb {
	for _, r := range w.chains[at] {
		*met++
		if !firewall.Matches(r, *p) {
			continue
		}
		switch t := r.Target; t.Verb {
		case firewall.Accept, firewall.Drop, firewall.Reject, firewall.Return:
			return t.Verb
		case firewall.SetMark:
			p.Mark = p.Mark&^t.Mask ^ t.Value
		case firewall.Goto:
			return w.run(walked{at.table, t.Chain}, p, met)
		case firewall.Jump:
			if v := w.run(walked{at.table, t.Chain}, p, met); v != firewall.Return {
				return v
			}
		}
	}
	return firewall.Return
}

// way is where a packet passes our rules, hook by hook.
type way struct {
	packet firewall.Packet
	hooks  []hook
}

type hook struct {
	table firewall.Table
	name  string
}

var (
	ins      = []hook{{firewall.Mangle, "PREROUTING"}, {firewall.Mangle, "INPUT"}, {firewall.Filter, "INPUT"}}
	forwards = []hook{
		{firewall.Mangle, "PREROUTING"}, {firewall.Mangle, "FORWARD"}, {firewall.Filter, "FORWARD"},
		{firewall.Mangle, "POSTROUTING"}, {firewall.NAT, "POSTROUTING"},
	}
	outs = []hook{{firewall.Filter, "OUTPUT"}, {firewall.Mangle, "POSTROUTING"}}
)

// pass runs a packet through its hooks, and tells of each how many rules it met
// there, until one drops it.
func (w walker) pass(ways []way, tell func(hook, int)) (through bool) {
	for _, y := range ways {
		p := y.packet
		for _, h := range y.hooks {
			if h.table == firewall.NAT && p.Ct.State&firewall.CtEstablished != 0 {
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
