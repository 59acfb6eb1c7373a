package firewall

import (
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"reflect"
)

// Compiler lays facts out again and again, as a daemon does. Its results are those of
// Compile. Equal facts, such as those after a rekey, have the very same rule sets, and
// chains with equal rules have the very same Rules, by which a Planner knows them. The
// zero value is ready to use; it is not for concurrent use.
type Compiler struct{ last Result }

// Compile decides the facts and lays them out.
func (c *Compiler) Compile(in Input) Result {
	f := Decide(in)
	if c.last.Rulesets != nil && reflect.DeepEqual(f, c.last.Facts) {
		return c.last
	}
	sets := Rulesets(f)
	keepRules(c.last.Rulesets, sets)
	c.last = Result{Facts: f, Rulesets: sets}
	return c.last
}

// keepRules gives chains that have the same rules as before the very same list. Both
// are in the order of Rulesets.
func keepRules(before, after []rules.Ruleset) {
	for i := range after {
		if i >= len(before) || before[i].Family != after[i].Family {
			return
		}
		old, chains := before[i].Chains, after[i].Chains
		for j := range chains {
			for len(old) > 0 && compareChains(old[0], chains[j]) < 0 {
				old = old[1:]
			}
			if len(old) > 0 && compareChains(old[0], chains[j]) == 0 && old[0].Rules.Equal(chains[j].Rules) {
				chains[j].Rules = old[0].Rules
			}
		}
	}
}
