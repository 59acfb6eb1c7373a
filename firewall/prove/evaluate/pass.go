package evaluate

import (
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// pass evaluates one chain. A row of rules that do the same to packets with one mark
// acts as one rule with all their matches: gateways have thousands of rules that differ
// in the tunnel alone.
type pass struct {
	*evaluator
	*effect
	table rules.Table
	// in are the packets that reach the next rule, but for those of the rows.
	in   stream
	rows [len(stream{})]row
}

// row is rules that do the same, one after the other.
type row struct {
	action  action
	matches []space.Set
}

// action is the effect of a rule on packets with one mark.
type action struct {
	target  rules.Target
	c       firewall.Case
	purpose rules.Purpose // if asked for
	// moves is true if all packets go on with the mark to.
	moves bool
	to    int
}

// rule sends the packets through a rule.
func (p *pass) rule(rule *rules.Rule) {
	var actions [len(stream{})]action
	var active, comes [len(stream{})]bool
	some, rows := false, true
	for m := range p.in {
		comes[m] = p.awaits(m) && p.marked(rule.Mark, p.mark(m))
		some = some || comes[m]
	}
	if !some {
		return
	}
	match := p.And(p.matching(rule, p.at), p.scope)
	if match == space.None {
		return
	}
	some = false
	for m := range p.in {
		if !comes[m] {
			continue
		}
		actions[m] = p.actionOf(rule, m)
		active[m] = !actions[m].idle(m)
		some = some || active[m]
		rows = rows && p.joinable(rule, actions[m], m)
	}
	if !some {
		return
	}
	if !rows {
		p.flushAll()
		p.act(match, actions, active)
		return
	}
	for m, a := range actions {
		if !active[m] {
			continue
		}
		p.flushInto(m)
		if len(p.rows[m].matches) > 0 && p.rows[m].action != a {
			p.flush(m)
		}
		p.rows[m].action = a
		p.rows[m].matches = append(p.rows[m].matches, match)
	}
}

// idle reports whether an action does nothing to packets with a mark.
func (a action) idle(mark int) bool { return a.moves && a.to == mark && a.purpose == "" }

// awaits reports whether packets with a mark may reach the next rule.
func (p *pass) awaits(m int) bool {
	if p.in[m] != space.None {
		return true
	}
	for from := range p.rows {
		if r := &p.rows[from]; len(r.matches) > 0 && r.action.moves && r.action.to == m {
			return true
		}
	}
	return false
}

func (p *pass) actionOf(rule *rules.Rule, m int) action {
	a := action{target: rule.Target, c: rule.Case}
	if p.purposes[rule.Purpose] {
		a.purpose = rule.Purpose
	}
	switch t := rule.Target; t.Verb {
	case rules.Accept, rules.Drop, rules.Reject, rules.Return, rules.Goto:
	case rules.SetMark:
		a.moves, a.to = true, p.index(p.mark(m)&^t.Mask^t.Value)
		a.c = firewall.NoCase
	case rules.Jump:
		if to, ok := p.chain(p.key(t.Chain), m).becomes(p.scope); ok {
			a.moves, a.to = true, to
			a.c = firewall.NoCase
		}
	default: // the rule does nothing that another rule sees
		a.moves, a.to = true, m
	}
	if a.moves {
		a.target = rules.Target{}
	}
	return a
}

func (p *pass) key(chain string) rules.ChainKey {
	return rules.ChainKey{Table: p.table, Name: chain}
}

// joinable reports whether rules with an action may act as one. A second rule must do
// nothing to packets that the first has let go on.
func (p *pass) joinable(rule *rules.Rule, a action, m int) bool {
	switch {
	case a.moves && a.to != m:
		return !p.marked(rule.Mark, p.mark(a.to)) || p.actionOf(rule, a.to).idle(a.to)
	case a.moves || a.target.Verb != rules.Jump:
		return true
	}
	for i, set := range p.chain(p.key(a.target.Chain), m).back {
		if i != m && set != space.None {
			return false
		}
	}
	return true
}

// flushInto makes the packets that rows move to a mark get there.
func (p *pass) flushInto(m int) {
	for from := range p.rows {
		if r := &p.rows[from]; from != m && len(r.matches) > 0 && r.action.moves && r.action.to == m {
			p.flush(from)
		}
	}
}

func (p *pass) flushAll() {
	for m := range p.rows {
		p.flush(m)
	}
}

// flush lets a row act.
func (p *pass) flush(m int) {
	r := p.rows[m]
	p.rows[m] = row{}
	if len(r.matches) == 0 {
		return
	}
	if r.action.moves && r.action.to != m {
		p.flush(r.action.to) // its rules all stand before those of the row
	}
	var actions [len(stream{})]action
	var active [len(stream{})]bool
	actions[m], active[m] = r.action, true
	p.act(p.Union(r.matches...), actions, active)
}

// act applies the actions to the packets of a match, by their mark.
func (p *pass) act(match space.Set, actions [len(stream{})]action, active [len(stream{})]bool) {
	on := nothing
	for m, a := range actions {
		if !active[m] {
			continue
		}
		hit := p.And(p.in[m], match)
		if hit == space.None {
			continue
		}
		if a.purpose != "" {
			p.meet(p.effect, a.purpose, hit)
		}
		if a.moves && a.to == m {
			continue
		}
		p.in[m] = p.Minus(p.in[m], match)
		switch {
		case a.moves:
			on[a.to] = p.Or(on[a.to], hit)
		case a.target.Verb == rules.Return:
			p.back[m] = p.Or(p.back[m], hit)
		case a.target.Verb == rules.Goto:
			p.back = p.join(p.back, p.add(p.effect, p.key(a.target.Chain), m, hit, a.c))
		case a.target.Verb == rules.Jump:
			on = p.join(on, p.add(p.effect, p.key(a.target.Chain), m, hit, a.c))
		default:
			p.end(p.effect, end{a.target.Verb, a.c}, hit)
		}
	}
	p.in = p.join(p.in, on)
}
