package firewall

import "maps"

// Planner plans again and again, as a daemon does, and looks only at chains that
// have changed since the last time: a chain whose rules are the same slice as
// before, as in the results of a Compiler, is neither validated nor rendered
// again, and not compared again with live rules that are the same slice too. Its
// changes are those of Plan. The zero value is ready to use; it is not for
// concurrent use.
type Planner struct {
	chains map[ruleKey]*knownChain
	turn   int
	// want is that of the last plan. If there was nothing to do, have and change
	// are too.
	want   []Ruleset
	have   map[Family]Save
	change Change
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
	change, err := planWith(p, want, have)
	maps.DeleteFunc(p.chains, func(_ ruleKey, k *knownChain) bool { return k.turn != p.turn })
	p.want, p.have, p.change = nil, nil, Change{}
	if err == nil {
		p.want = want
		if change.Empty() {
			p.have, p.change = maps.Clone(have), change
		}
	}
	return change, err
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
