package firewall

import (
	"fmt"
	"slices"
)

// alike reports whether the chains of a rule set lead to each other as those of the
// last one did, which was found valid: then no more can be wrong than in the rules of
// chains that have others now.
func (p *Planner) alike(before, after Ruleset) bool {
	if len(before.Chains) != len(after.Chains) || !slices.Equal(before.Hooks, after.Hooks) {
		return false
	}
	for i := range after.Chains {
		was, now := &before.Chains[i], &after.Chains[i]
		if was.Name != now.Name || was.Table != now.Table {
			return false
		}
		if was.Rules.list == now.Rules.list {
			continue
		}
		known := p.chains[ruleKey{was.Rules.list, before.Family, was.Table, was.Name}]
		if known == nil || known.valid == 0 || !slices.Equal(was.Rules.leads(), now.Rules.leads()) {
			return false
		}
	}
	return true
}

// validate validates what must be of a rule set, and keeps what is known of its
// chains.
func (p *Planner) validate(before, after Ruleset) error {
	if p.whole {
		return validate(after, p)
	}
	for i := range after.Chains {
		was, now := &before.Chains[i], &after.Chains[i]
		if was.Rules.list == now.Rules.list {
			continue
		}
		key := ruleKey{was.Rules.list, before.Family, was.Table, was.Name}
		hooks := p.chains[key].valid
		if err := validRules(after.Family, now, hooks); err != nil {
			return fmt.Errorf("%s %s %w", after.Family, now.Table, err)
		}
		delete(p.chains, key)
		if known := p.known(after.Family, *now); known != nil {
			known.valid = hooks
		}
	}
	return nil
}

// validRules reports the first rule of a chain, reached from those hooks, that is not
// valid.
func validRules(family Family, c *Chain, hooks hooks) error {
	for i, r := range c.Rules.All() {
		if err := validRule(family, c.Table, hooks, &r); err != nil {
			return fmt.Errorf("%s: rule %d (%s): %w", c.Name, i+1, r.Text(family), err)
		}
	}
	return nil
}
