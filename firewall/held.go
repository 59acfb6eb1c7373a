package firewall

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// heldChain stands for the rules of a live chain that are known to be wanted ones:
// their text can be had from these, so nobody need keep it.
type heldChain struct {
	rules Rules
	// packets and bytes are the rules' counters, nil where all are 0.
	packets, bytes []uint64
}

// Stands returns what stands once the steps of the last change that was planned
// were run on what it was planned from: what Change.After returns, but with the
// chains of ours in a form that takes little memory and that the next plan is
// soon done with. See Save.Whole. Nothing of it shares memory with the text that
// the live rules were read from.
func (p *Planner) Stands(have map[Family]Save, change Change) (map[Family]Save, error) {
	after := make(map[Family]Save, len(have))
	for family, save := range have {
		h := holder{p: p, family: family}
		for _, step := range change.Steps {
			if step.Family != family {
				continue
			}
			var err error
			if save, err = save.after(step, &h); err != nil {
				return nil, fmt.Errorf("follow a change of %s (%s): %w", step.Table, family, err)
			}
		}
		after[family] = h.save(save)
	}
	if p.want != nil && !p.leftovers {
		p.stood = maps.Clone(after)
	}
	if p.have != nil { // or it would keep what this is to replace
		p.have, p.change.Former = maps.Clone(after), after
	}
	return after, nil
}

// holder puts wanted rules in the place of live ones.
type holder struct {
	p      *Planner
	family Family
	// chains are the wanted ones; nil before they were asked for.
	chains map[chainKey]Rules
}

// wanted returns what stands for a chain of ours, nil if it can't be held.
func (h *holder) wanted(table Table, name string) (*heldChain, *knownChain) {
	if h == nil {
		return nil, nil
	}
	if h.chains == nil {
		h.chains = make(map[chainKey]Rules)
		for _, rs := range h.p.want {
			for _, c := range rs.Chains {
				if rs.Family == h.family {
					h.chains[chainKey{c.Table, c.Name}] = c.Rules
				}
			}
		}
	}
	rules := h.chains[chainKey{table, name}]
	known := h.p.known(h.family, Chain{table, name, rules})
	if known == nil || known.ids == "" || !Ours(name) {
		return nil, nil
	}
	return &heldChain{rules: rules}, known
}

// save holds what it can of a save; one of which all is held is returned as it is.
func (h *holder) save(s Save) Save {
	if !slices.ContainsFunc(s.Tables, func(t SavedTable) bool { return !t.settled }) {
		return s
	}
	tables := slices.Clone(s.Tables)
	for i := range tables {
		t := &tables[i]
		if t.settled {
			continue
		}
		t.settled, t.Name = true, Table(strings.Clone(string(t.Name)))
		t.Chains = slices.Clone(t.Chains)
		for j := range t.Chains {
			t.Chains[j] = h.chain(t.Name, t.Chains[j])
		}
	}
	return Save{Tables: tables, Unreadable: s.Unreadable}
}

func (h *holder) chain(table Table, c SavedChain) SavedChain {
	if c.held != nil {
		return c
	}
	c.Name, c.Policy = strings.Clone(c.Name), strings.Clone(c.Policy)
	if held, known := h.wanted(table, c.Name); held != nil && known.same(c.Rules) {
		for i, r := range c.Rules {
			held.count(i, r.Packets, r.Bytes)
		}
		c.Rules, c.held = nil, held
		return c
	}
	c.Rules = slices.Clone(c.Rules)
	for i := range c.Rules {
		r := &c.Rules[i]
		*r = SavedRule{Raw: strings.Clone(r.Raw), Packets: r.Packets, Bytes: r.Bytes}
		r.readWords()
	}
	return c
}

// count sets the counters of a rule.
func (c *heldChain) count(i int, packets, bytes uint64) {
	if packets|bytes == 0 {
		return
	}
	if c.packets == nil {
		c.packets, c.bytes = make([]uint64, c.rules.Len()), make([]uint64, c.rules.Len())
	}
	c.packets[i], c.bytes[i] = packets, bytes
}

// whole returns the chain with its rules, as they were sent.
func (c SavedChain) whole(family Family, table Table) SavedChain {
	if c.held == nil {
		return c
	}
	w := wantedChain{name: c.Name, rules: c.held.rules, family: family, table: table}
	w.render()
	rules := make([]SavedRule, len(w.lines))
	for i, l := range w.lines {
		r := &rules[i]
		r.Raw = l.text
		r.readWords()
		if c.held.packets != nil {
			r.Packets, r.Bytes = c.held.packets[i], c.held.bytes[i]
		}
	}
	c.Rules, c.held = rules, nil
	return c
}

// Whole returns the save of a family with the rules of all chains, which what
// Planner.Stands returned has not. Any other save is returned as it is.
func (s Save) Whole(family Family) Save {
	if !slices.ContainsFunc(s.Tables, func(t SavedTable) bool { return t.settled }) {
		return s
	}
	s.Tables = slices.Clone(s.Tables)
	for i, t := range s.Tables {
		whole := &s.Tables[i]
		whole.settled, whole.Chains = false, slices.Clone(t.Chains)
		for j, c := range whole.Chains {
			whole.Chains[j] = c.whole(family, t.Name)
		}
	}
	return s
}
