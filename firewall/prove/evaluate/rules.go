package evaluate

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
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

// values are those that the rules ask for.
func (r *ruleset) values() space.Values {
	var v space.Values
	for _, list := range r.chains {
		for i := range list {
			note(&v, &list[i])
		}
	}
	return v
}

// OthersValues are the values that rules of other programs ask for.
func OthersValues(others []live.Other) space.Values {
	var v space.Values
	for i := range others {
		note(&v, &others[i].Matches)
	}
	return v
}

// note adds the values that a rule asks for.
func note(v *space.Values, r *rules.Rule) {
	for _, name := range [...]string{r.In, r.Out} {
		if name != "" {
			v.Names = append(v.Names, name)
		}
	}
	v.Prefix(r.Src, r.Dst, r.Ct.OrigSrc, r.Ct.OrigDst, r.Ct.ReplSrc, r.Ct.ReplDst)
	for _, p := range [...]netip.Prefix{r.Policy.TunnelSrc, r.Policy.TunnelDst} {
		if p.IsValid() {
			v.Outer = append(v.Outer, p)
		}
	}
	if r.Policy.HasReqid {
		v.SA(r.Policy.Reqid)
	}
}
