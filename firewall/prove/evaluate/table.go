package evaluate

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// table is a table of nftables, ready for packets of one family.
type table struct {
	chains map[string]*sets.Chain
	sets   map[string]*sets.Set
	// bases are the base chains of a filter by hook, in the order of their priorities,
	// and nat those behind routing that bind a source.
	bases map[sets.Hook][]*sets.Chain
	nat   []*sets.Chain
}

func newTable(t *sets.Table) *table {
	p := &table{chains: make(map[string]*sets.Chain), sets: make(map[string]*sets.Set), bases: make(map[sets.Hook][]*sets.Chain)}
	for i := range t.Sets {
		p.sets[t.Sets[i].Name] = &t.Sets[i]
	}
	for i := range t.Chains {
		c := &t.Chains[i]
		p.chains[c.Name] = c
		switch {
		case t.Flags&sets.Dormant != 0:
		case c.Base.Type == sets.Filter:
			p.bases[c.Base.Hook] = append(p.bases[c.Base.Hook], c)
		case c.Base.Type == sets.NAT && c.Base.Hook == sets.Postrouting:
			p.nat = append(p.nat, c)
		}
	}
	for _, list := range p.bases {
		slices.SortStableFunc(list, func(a, b *sets.Chain) int { return cmp.Compare(a.Base.Priority, b.Base.Priority) })
	}
	return p
}

// tableEffect is the effect of a chain on packets of one stream.
type tableEffect struct {
	// back are the packets that come back, and accepted those that go on behind the base
	// chain, by the mark that they have then.
	back, accepted stream
	// dropped and refused are the packets on which the chain decides, bound those that
	// are bound to a source.
	dropped, refused, bound space.Set
}

func newTableEffect() *tableEffect {
	return &tableEffect{back: nothing, accepted: nothing, dropped: space.None, refused: space.None, bound: space.None}
}

// tableEvaluator knows the effects of chains on packets as one hook sees them.
type tableEvaluator struct {
	model
	table *table
	at    sight
	scope space.Set
	known map[tableVisit]*tableEffect
	terms map[termKey]space.Set
	// odd is the first term that has no model.
	odd string
}

type tableVisit struct {
	chain string
	mark  int
}

// chain returns the effect of a chain on packets with a mark.
func (e *tableEvaluator) chain(name string, mark int) *tableEffect {
	key := tableVisit{name, mark}
	if known, ok := e.known[key]; ok {
		return known
	}
	p := newTableEffect()
	e.known[key] = p
	c, ok := e.table.chains[name]
	if !ok {
		e.isOdd("chain " + name)
		return p
	}
	in := nothing
	in[mark] = e.scope
	for i := range c.Rules {
		in = e.rule(p, &c.Rules[i], in)
	}
	p.back = e.join(p.back, in)
	return p
}

func (e *tableEvaluator) isOdd(what string) {
	if e.odd == "" {
		e.odd = what
	}
}

// rule sends packets through a rule, and returns those that go on.
func (e *tableEvaluator) rule(p *tableEffect, r *sets.Rule, in stream) stream {
	on := nothing // packets that the rule does not match
	for _, t := range r.Terms {
		if in == nothing {
			return on
		}
		switch t := t.(type) {
		case sets.Verdict:
			return e.join(on, e.verdict(p, t, in))
		case sets.Reject:
			p.refused = e.Or(p.refused, e.all(in))
			return on
		case sets.SNAT:
			p.bound = e.Or(p.bound, e.all(in))
			p.accepted = e.join(p.accepted, in)
			return on
		case sets.SetMark:
			in = e.marking(t, in)
		case sets.Dispatch:
			return e.join(on, e.dispatch(p, t, in))
		case sets.Counter, sets.Log, sets.Limit, sets.MaxSeg, sets.Update:
		default:
			for m := range in {
				if in[m] == space.None {
					continue
				}
				set, ok := e.matching(t, m)
				if !ok {
					e.isOdd(t.String())
				}
				on[m] = e.Or(on[m], e.Minus(in[m], set))
				in[m] = e.And(in[m], set)
			}
		}
	}
	return e.join(on, in)
}

func (e *tableEvaluator) all(in stream) space.Set { return e.Union(in[:]...) }

// marking moves packets to the mark that they get. A rule changes no bit but ours.
func (e *tableEvaluator) marking(t sets.SetMark, in stream) stream {
	if t.Mask&^e.Marks.Both() != 0 {
		e.isOdd(t.String())
	}
	out := nothing
	for m, set := range in {
		to := e.index(e.mark(m)&^t.Mask | t.Value)
		out[to] = e.Or(out[to], set)
	}
	return out
}

// verdict ends a rule for packets, and returns those that go on behind it.
func (e *tableEvaluator) verdict(p *tableEffect, v sets.Verdict, in stream) stream {
	switch v.Do {
	case sets.Accept:
		p.accepted = e.join(p.accepted, in)
	case sets.Drop:
		p.dropped = e.Or(p.dropped, e.all(in))
	case sets.Jump:
		return e.enter(p, v.Chain, in)
	case sets.Goto:
		p.back = e.join(p.back, e.enter(p, v.Chain, in))
	case sets.Return:
		p.back = e.join(p.back, in)
	}
	return nothing
}

// enter adds the effect of a chain on packets, and returns those that come back.
func (e *tableEvaluator) enter(p *tableEffect, chain string, in stream) stream {
	back := nothing
	for m, set := range in {
		if set == space.None {
			continue
		}
		of := e.chain(chain, m)
		for i := range of.back {
			back[i] = e.Or(back[i], e.And(set, of.back[i]))
			p.accepted[i] = e.Or(p.accepted[i], e.And(set, of.accepted[i]))
		}
		p.dropped = e.Or(p.dropped, e.And(set, of.dropped))
		p.refused = e.Or(p.refused, e.And(set, of.refused))
		p.bound = e.Or(p.bound, e.And(set, of.bound))
	}
	return back
}

// dispatch ends a rule with the verdict that a map has for the packets.
func (e *tableEvaluator) dispatch(p *tableEffect, t sets.Dispatch, in stream) stream {
	s, ok := e.table.sets[t.Map]
	all, parts, known := space.None, [][]part(nil), false
	if ok {
		all, parts, known = e.keyed(t.Fields)
	}
	if !known {
		e.isOdd(t.String())
		return in
	}
	on := nothing
	for i := range s.Elements {
		x := &s.Elements[i]
		set := e.And(all, e.element(s, x, t.Fields, parts))
		hit := nothing
		for m := range in {
			hit[m] = e.And(in[m], set)
			in[m] = e.Minus(in[m], set)
		}
		on = e.join(on, e.verdict(p, x.Verdict, hit))
	}
	return e.join(on, in)
}

// base sends packets through a base chain, adds its effect, and returns the packets that
// go on.
func (e *tableEvaluator) base(to *tableEffect, chain string, in stream) stream {
	of := newTableEffect()
	on := e.join(e.enter(of, chain, in), of.accepted)
	to.dropped, to.refused = e.Or(to.dropped, of.dropped), e.Or(to.refused, of.refused)
	to.bound = e.Or(to.bound, of.bound)
	return on
}

// netfilterHooks are the hooks that packets pass on a way.
var netfilterHooks = map[firewall.Way][]sets.Hook{
	firewall.ToHost:   {sets.Prerouting, sets.Input},
	firewall.Through:  {sets.Prerouting, sets.Forward, sets.Postrouting},
	firewall.FromHost: {sets.Output, sets.Postrouting},
}

// tableAt returns the evaluator of the table at a hook.
func (w *Firewall) tableAt(way firewall.Way, hook sets.Hook) *tableEvaluator {
	at := sight{
		path: way != firewall.FromHost, ahead: way != firewall.ToHost && hook != sets.Prerouting, in: way != firewall.FromHost,
		out: way != firewall.ToHost && hook != sets.Prerouting, routed: hook != sets.Prerouting, dstLocal: space.TruthOf(way == firewall.ToHost),
	}
	if hook == sets.Prerouting {
		at.dstLocal = w.Bit(w.DstLocal)
	}
	if e, ok := w.tables[at]; ok {
		return e
	}
	e := &tableEvaluator{model: w.model, table: w.table, at: at, scope: w.scope, known: make(map[tableVisit]*tableEffect), terms: make(map[termKey]space.Set)}
	w.tables[at] = e
	return e
}

// runTable sends packets through the base chains of some hooks. It returns the packets
// behind each hook.
func (w *Firewall) runTable(way firewall.Way, hooks []sets.Hook, in stream) (*tableEffect, map[sets.Hook]stream) {
	to := newTableEffect()
	after := make(map[sets.Hook]stream)
	for _, hook := range hooks {
		e := w.tableAt(way, hook)
		for _, c := range w.table.bases[hook] {
			in = e.base(to, c.Name, in)
		}
		after[hook] = in
	}
	return to, after
}

// DroppedAt returns the packets that a table drops at one hook, by the addresses and the bits
// that they have there.
func (w *Firewall) DroppedAt(way firewall.Way, hook sets.Hook) space.Set {
	to, _ := w.runTable(way, []sets.Hook{hook}, w.arriving(way, space.All))
	return w.Or(to.dropped, to.refused)
}

// runAlone sends packets through a table that decides. It accepts those that are verified
// before filter, because the rule that accepts them asks for that bit.
func (w *Firewall) runAlone(way firewall.Way, from space.Set) Fate {
	f := newFate()
	hooks := netfilterHooks[way]
	to, after := w.runTable(way, hooks, w.arriving(way, from))
	before := hooks[0]
	if way != firewall.FromHost {
		before = hooks[1]
	}
	f.Accepted = w.Or(after[before][verifiedBit], after[before][verifiedBit|tagBit])
	f.end(w.Space, place{}, end{verb: rules.Drop}, to.dropped)
	f.end(w.Space, place{}, end{verb: rules.Reject}, to.refused)
	f.verified = f.Accepted
	return f
}

// Odd returns an error about a part of the table that has no model, or about a value that
// the space lacks, so that a question about it has no answer. It is known once packets were
// sent there.
func (w *Firewall) Odd() error {
	for _, e := range w.tables {
		if e.odd != "" {
			return fmt.Errorf("prove the table of nftables: %q has no model", e.odd)
		}
	}
	return w.Space.Odd()
}

// tableSurely returns the packets that the table ends with one of the verbs whatever
// their mark is, if no chain before has dropped them.
func (w *Firewall) tableSurely(way firewall.Way, verbs []rules.Verb) space.Set {
	if !slices.Contains(verbs, rules.Drop) {
		return space.None
	}
	var sure []space.Set
	for _, hook := range netfilterHooks[way] {
		e := w.tableAt(way, hook)
		for _, c := range w.table.bases[hook] {
			set := space.All
			for m := range nothing {
				of := e.chain(c.Name, m)
				set = w.And(set, w.Or(of.dropped, of.refused))
			}
			sure = append(sure, set)
		}
	}
	return w.Union(sure...)
}

// TableMayEnd returns packets among which all that the table drops are, none without a
// table.
func (w *Firewall) TableMayEnd(way firewall.Way) space.Set {
	if w.table == nil {
		return space.None
	}
	var all []space.Set
	for _, hook := range netfilterHooks[way] {
		for _, c := range w.table.bases[hook] {
			for m := range nothing {
				of := w.tableAt(way, hook).chain(c.Name, m)
				all = append(all, of.dropped, of.refused)
			}
		}
	}
	return w.Union(all...)
}

// bound returns the packets that the table keeps from the NAT of others.
func (w *Firewall) bound(way firewall.Way) space.Set {
	set := space.None
	e := w.tableAt(way, sets.Postrouting)
	for _, c := range w.table.nat {
		set = w.Or(set, e.chain(c.Name, 0).bound)
	}
	return set
}
