package plan

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// A Tracker plans again and again, as a daemon does, from the live rules as they were
// read once and as its own changes left them since. It renders and validates only
// chains with rules that have changed since the last plan. Its changes are those of Plan.
// The zero value is ready to use; it is not for concurrent use.
type Tracker struct {
	// chains are those of the last wanted rules.
	chains map[chainAt]*knownChain
	hooks  map[xfrm.Family][]rules.Hook
	plan   int
	// stands is nil while the live rules are not known.
	stands map[xfrm.Family]standing
	// applied is true from the time that a plan was applied to the next plan.
	applied bool
}

// chainAt is the place of a chain.
type chainAt struct {
	family xfrm.Family
	table  rules.Table
	name   string
}

// knownChain is the cached knowledge of a wanted chain. It serves until the chain is wanted
// with other rules.
type knownChain struct {
	rules rules.List
	// ids are the IDs of the rules, one after the other; empty before they were made.
	ids string
	// valid are the hooks from which the rules were found valid; 0 is none.
	valid rules.Hooks
	// plan is the last one that wanted the chain, and old is true if it was not the first.
	plan int
	old  bool
}

// Observed tells the tracker the live rules as they were just read. They may not be
// written to afterwards.
func (t *Tracker) Observed(live map[xfrm.Family]live.Tables) {
	t.stands = make(map[xfrm.Family]standing, len(live))
	for family, save := range live {
		t.stands[family] = standingOf(save)
	}
}

// Forget says that the live rules are no longer known: another program changed them,
// or a change failed.
func (t *Tracker) Forget() { t.stands = nil }

// Known reports whether the live rules are known, so that Plan can be asked.
func (t *Tracker) Known() bool { return t.stands != nil }

// Others returns the chains that are not ours, with all their rules. It is nil if the
// live rules are not known.
func (t *Tracker) Others() map[xfrm.Family]live.Tables {
	if t.stands == nil {
		return nil
	}
	others := make(map[xfrm.Family]live.Tables, len(t.stands))
	for family, s := range t.stands {
		others[family] = s.others()
	}
	return others
}

// Tunnels returns the IDs of the tunnels that live rules of ours name.
func (t *Tracker) Tunnels() map[string]bool {
	found := make(map[string]bool)
	for _, s := range t.stands {
		s.tunnels(found)
	}
	return found
}

// Expect validates and identifies the rules that the next plan may want, while the
// live rules are being read. An error is left for Plan to report.
func (t *Tracker) Expect(want []rules.Ruleset) {
	t.plan++
	for _, rs := range want {
		if t.validate(rs) != nil {
			t.chains = nil
			return
		}
		for _, c := range rs.Chains {
			t.known(rs.Family, c).identify(rs.Family, c)
		}
	}
}

// Plan returns the change from the live rules to the wanted ones. A family of the live
// rules without a rule set, or with a rule set without chains, loses all that is ours.
// The wanted rules may not be written to afterwards.
//
// Plan fails if a rule set is not valid, and if the live rules of its family are not
// known.
func (t *Tracker) Plan(want []rules.Ruleset) (Change, error) {
	t.plan++
	wanted, err := t.prepare(want)
	if err != nil {
		t.chains, t.hooks, t.applied = nil, nil, false
		return Change{}, fmt.Errorf("plan rules: %w", err)
	}
	same := t.replace(want)
	change, err := plan(wanted, maps.Clone(t.stands), false)
	change.Drift = err == nil && same && t.applied && !change.Empty()
	t.applied = false
	return change, err
}

// prepare validates the wanted rules, and renders chains with other rules than before.
func (t *Tracker) prepare(want []rules.Ruleset) (map[xfrm.Family]wantedFamily, error) {
	if t.stands == nil {
		return nil, errors.New("the live rules have not been read")
	}
	wanted := make(map[xfrm.Family]wantedFamily, len(t.stands))
	for _, rs := range want {
		if err := t.validate(rs); err != nil {
			return nil, err
		}
		if _, ok := t.stands[rs.Family]; !ok {
			return nil, fmt.Errorf("the live rules of %s have not been read", rs.Family)
		}
		if _, ok := wanted[rs.Family]; ok {
			return nil, fmt.Errorf("two rule sets for %s", rs.Family)
		}
		wanted[rs.Family] = wantRuleset(rs, t.known)
	}
	return wanted, nil
}

// validate validates a rule set, but for the rules of chains that were valid before.
func (t *Tracker) validate(rs rules.Ruleset) error {
	return rules.ValidateChanged(rs, func(c *rules.Chain, from rules.Hooks) bool {
		k := t.known(rs.Family, *c)
		if k.valid == from {
			return true
		}
		k.valid = from
		return false
	})
}

// known returns the cached knowledge of a wanted chain.
func (t *Tracker) known(family xfrm.Family, c rules.Chain) *knownChain {
	at := chainAt{family, c.Table, c.Name}
	k := t.chains[at]
	if k == nil || k.plan != t.plan && !k.rules.Equal(c.Rules) {
		if t.chains == nil {
			t.chains = make(map[chainAt]*knownChain)
		}
		k = &knownChain{rules: c.Rules}
		t.chains[at] = k
	}
	k.plan = t.plan
	return k
}

// replace drops the chains that are no longer wanted, and reports whether the wanted
// rules are those of the last plan.
func (t *Tracker) replace(want []rules.Ruleset) (same bool) {
	before := len(t.chains)
	maps.DeleteFunc(t.chains, func(_ chainAt, k *knownChain) bool { return k.plan != t.plan })
	same = len(t.chains) == before && len(t.hooks) == len(want)
	for _, k := range t.chains {
		same = same && k.old
		k.old = true
	}
	hooks := make(map[xfrm.Family][]rules.Hook, len(want))
	for _, rs := range want {
		same = same && slices.Equal(t.hooks[rs.Family], rs.Hooks)
		hooks[rs.Family] = rs.Hooks
	}
	t.hooks = hooks
	return same
}

// Applied tells the tracker that a change of its last plan was applied. An error says
// that a step of the change can't be followed; the live rules are then not known.
func (t *Tracker) Applied(change Change) error {
	t.applied = t.stands != nil
	for _, step := range change.Steps {
		if t.stands == nil {
			return nil
		}
		after, err := t.stands[step.Family].after(step, t)
		if err != nil {
			t.Forget()
			return fmt.Errorf("follow a change of %s (%s): %w", step.Table, step.Family, err)
		}
		t.stands[step.Family] = after
	}
	for family, s := range t.stands {
		t.stands[family] = s.compacted(family, t)
	}
	return nil
}

// wanted returns a chain of ours that was wanted last, nil if there is none or its
// rules have no IDs yet.
func (t *Tracker) wanted(at chainAt) *knownChain {
	k := t.chains[at]
	if k == nil || len(k.ids) != k.rules.Len()*rules.IDLen || !rules.Ours(at.name) {
		return nil
	}
	return k
}

// identify makes the IDs of a chain's rules.
func (k *knownChain) identify(family xfrm.Family, c rules.Chain) {
	if k.ids != "" || c.Rules.Len() == 0 {
		return
	}
	ids := make([]byte, 0, rules.IDLen*c.Rules.Len())
	var text []byte
	for _, r := range c.Rules.All() {
		text = rules.AppendRule(text[:0], family, r)
		ids = rules.AppendID(ids, family, c.Table, c.Name, text, r)
	}
	k.ids = string(ids)
}

// learn keeps the IDs of a chain's lines.
func (k *knownChain) learn(lines []line) {
	ids := make([]byte, 0, rules.IDLen*len(lines))
	for i := range lines {
		ids = append(ids, lines[i].key...)
	}
	k.ids = string(ids)
}

// same reports whether live rules have the chain's IDs.
func (k *knownChain) same(have []live.Rule) bool {
	if len(have)*rules.IDLen != len(k.ids) {
		return false
	}
	for i := range have {
		if have[i].ID != k.ids[i*rules.IDLen:(i+1)*rules.IDLen] {
			return false
		}
	}
	return true
}
