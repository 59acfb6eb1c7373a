package firewall

import (
	"fmt"
	"maps"
	"slices"
)

// Planner plans again and again, as a daemon does, and looks only at chains that
// have changed since the last time: a chain whose rules are the same slice as
// before, as in the results of a Compiler, is neither validated nor rendered
// again, and not compared again with live rules that are the same slice too. Its
// changes are those of Plan. The zero value is ready to use; it is not for
// concurrent use.
type Planner struct {
	chains map[ruleKey]*knownChain
	turn   int
	// whole tells that this turn looks at all chains, and so finds out which are of
	// use no more.
	whole bool
	// want is that of the last plan. If there was nothing to do, have and change
	// are too.
	want   []Ruleset
	have   map[Family]Save
	change Change
	// stood is what Stands returned of the last plan, nil if something of it was
	// left over.
	stood     map[Family]Save
	leftovers bool
}

// ruleKey is where a list of rules stands.
type ruleKey struct {
	rules  *ruleList
	family Family
	table  Table
	name   string
}

// knownChain is what is known of a chain with the very same rules.
type knownChain struct {
	turn int
	// ids are the IDs of the rules, one after the other; empty before they are
	// known.
	ids string
	// valid are the hooks from which the rules were found valid; 0 is none.
	valid hooks
}

// Plan returns what leads from the live rules to the wanted ones. Neither may be
// written to afterwards.
func (p *Planner) Plan(want []Ruleset, have map[Family]Save) (Change, error) {
	if p.have != nil && len(want) > 0 && len(p.want) == len(want) && &p.want[0] == &want[0] && maps.EqualFunc(p.have, have, sameSave) {
		return p.change, nil
	}
	if p.chains == nil {
		p.chains = make(map[ruleKey]*knownChain)
	}
	p.turn++
	change, err := p.plan(want, have)
	if p.whole {
		maps.DeleteFunc(p.chains, func(_ ruleKey, k *knownChain) bool { return k.turn != p.turn })
	}
	p.want, p.have, p.change, p.stood = nil, nil, Change{}, nil
	if err == nil {
		p.want = want
		p.leftovers = len(change.Leftovers) > 0
		if change.Empty() {
			p.have, p.change = maps.Clone(have), change
		}
	}
	return change, err
}

// plan plans from what is known to stand, if that is what there is: the rest is as
// it was wanted then, so only the chains that are wanted otherwise now need be
// looked at.
func (p *Planner) plan(want []Ruleset, have map[Family]Save) (Change, error) {
	p.whole = true
	if p.stood == nil || len(p.want) != len(want) || !maps.EqualFunc(p.stood, have, sameSave) ||
		!slices.EqualFunc(p.want, want, func(a, b Ruleset) bool { return a.Family == b.Family }) {
		return planWith(p, want, have)
	}
	p.whole = !slices.EqualFunc(p.want, want, p.alike)
	wanted, there := make(map[Family]wantedFamily, len(have)), maps.Clone(have)
	for i, rs := range want {
		if err := p.validate(p.want[i], rs); err != nil {
			return Change{}, fmt.Errorf("plan rules: %w", err)
		}
		var names map[chainKey]bool
		rs.Chains, names = otherwise(p.want[i].Chains, rs.Chains)
		wanted[rs.Family] = wantRuleset(rs, p)
		there[rs.Family] = have[rs.Family].only(names)
	}
	if len(wanted) != len(there) {
		return planWith(p, want, have)
	}
	change, err := plan(wanted, there, false)
	change.Former = have
	return change, err
}

// otherwise returns the chains that were not there before, or with other rules,
// and the names of these and of those that are there no more. Both lists are in
// the order of Rulesets.
func otherwise(before, after []Chain) ([]Chain, map[chainKey]bool) {
	var chains []Chain
	names := make(map[chainKey]bool)
	note := func(c Chain) { names[chainKey{c.Table, c.Name}] = true }
	for _, c := range after {
		for len(before) > 0 && compareChains(before[0], c) < 0 {
			note(before[0])
			before = before[1:]
		}
		if len(before) > 0 && compareChains(before[0], c) == 0 {
			was := before[0]
			before = before[1:]
			if was.Rules.list == c.Rules.list {
				continue
			}
		}
		note(c)
		chains = append(chains, c)
	}
	for _, c := range before {
		note(c)
	}
	return chains, names
}

// only returns the save with those of our chains.
func (s Save) only(names map[chainKey]bool) Save {
	tables := slices.Clone(s.Tables)
	for i := range tables {
		t := &tables[i]
		var chains []SavedChain
		for j := range t.Chains {
			if c := &t.Chains[j]; !c.Ours() || names[chainKey{t.Name, c.Name}] {
				chains = append(chains, *c)
			}
		}
		t.Chains = chains
	}
	return Save{Tables: tables, Unreadable: s.Unreadable}
}

// sameSave reports whether two saves are one and the same.
func sameSave(a, b Save) bool {
	return len(a.Unreadable)+len(b.Unreadable) == 0 && len(a.Tables) == len(b.Tables) &&
		(len(a.Tables) == 0 || &a.Tables[0] == &b.Tables[0])
}

// known returns what is known of a chain, nil without a planner or rules.
func (p *Planner) known(family Family, c Chain) *knownChain {
	if p == nil || c.Rules.Len() == 0 {
		return nil
	}
	key := ruleKey{c.Rules.list, family, c.Table, c.Name}
	k := p.chains[key]
	if k == nil {
		k = new(knownChain)
		p.chains[key] = k
	}
	k.turn = p.turn
	return k
}

// learn keeps the IDs of a chain's lines.
func (k *knownChain) learn(lines []line) {
	if k == nil {
		return
	}
	ids := make([]byte, 0, idLen*len(lines))
	for i := range lines {
		ids = append(ids, lines[i].key...)
	}
	k.ids = string(ids)
}

// same reports whether live rules have the chain's IDs.
func (k *knownChain) same(have []SavedRule) bool {
	if k == nil {
		return len(have) == 0
	}
	if len(have)*idLen != len(k.ids) {
		return false
	}
	for i := range have {
		if have[i].ID != k.ids[i*idLen:(i+1)*idLen] {
			return false
		}
	}
	return true
}
