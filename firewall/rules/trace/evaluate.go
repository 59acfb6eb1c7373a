package trace

import (
	"fmt"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Evaluator runs packets through a rule set as netfilter would. It knows only
// our own rules: the effect of other programs' rules on a packet that we leave alone
// is not its business.
type Evaluator struct {
	family xfrm.Family
	chains map[rules.ChainKey][]rules.Rule
	hooks  []rules.Hook
}

// Step is one rule that a packet met and that matched.
type Step struct {
	Table rules.Table
	Chain string
	// Index is the rule's position in its chain, from 0.
	Index int
	Rule  rules.Rule
}

// String is the rule as iptables-save would have it, and its purpose.
func (s Step) String() string {
	family := xfrm.Family(xfrm.IPv4)
	if p := s.Rule.Src; p.IsValid() && !p.Addr().Is4() || s.Rule.Proto == xfrm.ICMPv6 {
		family = xfrm.IPv6
	}
	return fmt.Sprintf("-t %s -A %s %s (%s)", s.Table, s.Chain, s.Rule.Text(family), s.Rule.Purpose)
}

// NewEvaluator prepares a rule set for tracing. The rule set must be valid.
func NewEvaluator(rs rules.Ruleset) Evaluator {
	e := Evaluator{family: rs.Family, chains: make(map[rules.ChainKey][]rules.Rule, len(rs.Chains)), hooks: rs.Hooks}
	for _, c := range rs.Chains {
		e.chains[rules.ChainKey{Table: c.Table, Name: c.Name}] = c.Rules.Slice()
	}
	return e
}

// Trace runs the packet through our part of a table's builtin chain. It returns
// the packet with its mark as the rules leave it, the verdict (Accept, Drop,
// Reject, or Return where the rest of the chain decides), and the rules that
// matched, in order.
func (e Evaluator) Trace(table rules.Table, hook string, p Packet) (Packet, rules.Verb, []Step) {
	var steps []Step
	for _, h := range e.hooks {
		if h.Table != table || h.From != hook {
			continue
		}
		if v := e.run(rules.ChainKey{Table: table, Name: h.To}, &p, &steps); v != rules.Return {
			return p, v, steps
		}
	}
	return p, rules.Return, steps
}

func (e Evaluator) run(at rules.ChainKey, p *Packet, steps *[]Step) rules.Verb {
	for i, r := range e.chains[at] {
		if !Matches(r, *p) {
			continue
		}
		*steps = append(*steps, Step{at.Table, at.Name, i, r})
		switch r.Target.Verb {
		case rules.Accept, rules.Drop, rules.Reject:
			return r.Target.Verb
		case rules.Return:
			return rules.Return
		case rules.SetMark:
			p.Mark = p.Mark&^r.Target.Mask ^ r.Target.Value
		case rules.Goto:
			return e.run(rules.ChainKey{Table: at.Table, Name: r.Target.Chain}, p, steps)
		case rules.Jump:
			if v := e.run(rules.ChainKey{Table: at.Table, Name: r.Target.Chain}, p, steps); v != rules.Return {
				return v
			}
		}
	}
	return rules.Return
}
