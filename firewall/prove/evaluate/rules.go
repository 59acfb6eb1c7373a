package evaluate

import (
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// ruleset is a rule set that sets of packets can be run through.
type ruleset struct {
	family xfrm.Family
	chains map[rules.ChainKey][]rules.Rule
	hooks  []rules.Hook
	// marking are the chains in which, or below which, a rule asks for the mark or
	// changes it.
	marking map[rules.ChainKey]bool
}

// newRuleset prepares a rule set, which must be valid.
func newRuleset(rs rules.Ruleset) *ruleset {
	r := &ruleset{
		family: rs.Family, chains: make(map[rules.ChainKey][]rules.Rule, len(rs.Chains)), hooks: rs.Hooks,
		marking: make(map[rules.ChainKey]bool, len(rs.Chains)),
	}
	for _, c := range rs.Chains {
		r.chains[rules.ChainKey{Table: c.Table, Name: c.Name}] = c.Rules.Slice()
	}
	for at := range r.chains {
		r.marks(at)
	}
	return r
}

func (r *ruleset) marks(at rules.ChainKey) bool {
	if known, ok := r.marking[at]; ok {
		return known
	}
	marks := false
	list := r.chains[at]
	for i := range list {
		t := list[i].Target
		marks = marks || list[i].Mark.Mask != 0 || t.Verb == rules.SetMark ||
			list[i].Leads() && r.marks(rules.ChainKey{Table: at.Table, Name: t.Chain})
	}
	r.marking[at] = marks
	return marks
}

// devices are the interfaces that rules name.
func (r *ruleset) devices() []string {
	var names []string
	for _, list := range r.chains {
		for i := range list {
			for _, name := range [...]string{list[i].In, list[i].Out} {
				if name != "" {
					names = append(names, name)
				}
			}
		}
	}
	return names
}
