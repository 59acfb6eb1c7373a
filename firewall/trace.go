package firewall

import (
	"fmt"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Evaluator runs packets through a rule set as netfilter would. It knows only
// our own rules: what other programs' rules do to a packet that we leave alone
// is not its business.
type Evaluator struct {
	family Family
	chains map[chainKey][]Rule
	hooks  []Hook
}

// TraceStep is one rule that a packet met and that matched.
type TraceStep struct {
	Table Table
	Chain string
	// Index is the rule's position in its chain, from 0.
	Index int
	Rule  Rule
}

// String is the rule as iptables-save would have it, and what it is for.
func (s TraceStep) String() string {
	family := Family(xfrm.IPv4)
	if p := s.Rule.Src; p.IsValid() && !p.Addr().Is4() || s.Rule.Proto == xfrm.ICMPv6 {
		family = xfrm.IPv6
	}
	return fmt.Sprintf("-t %s -A %s %s (%s)", s.Table, s.Chain, s.Rule.Text(family), s.Rule.Purpose)
}

// NewEvaluator prepares a rule set for tracing. The rule set must be valid.
func NewEvaluator(rs Ruleset) Evaluator {
	e := Evaluator{family: rs.Family, chains: make(map[chainKey][]Rule, len(rs.Chains)), hooks: rs.Hooks}
	for _, c := range rs.Chains {
		e.chains[chainKey{c.Table, c.Name}] = c.Rules.Slice()
	}
	return e
}

// Trace runs the packet through our part of a table's builtin chain. It returns
// the packet with its mark as the rules leave it, the verdict (Accept, Drop,
// Reject, or Return where the rest of the chain decides), and the rules that
// matched, in order.
func (e Evaluator) Trace(table Table, hook string, p Packet) (Packet, Verb, []TraceStep) {
	var steps []TraceStep
	for _, h := range e.hooks {
		if h.Table != table || h.From != hook {
			continue
		}
		if v := e.run(chainKey{table, h.To}, &p, &steps); v != Return {
			return p, v, steps
		}
	}
	return p, Return, steps
}

func (e Evaluator) run(at chainKey, p *Packet, steps *[]TraceStep) Verb {
	for i, r := range e.chains[at] {
		if !Matches(r, *p) {
			continue
		}
		*steps = append(*steps, TraceStep{at.table, at.name, i, r})
		switch r.Target.Verb {
		case Accept, Drop, Reject:
			return r.Target.Verb
		case Return:
			return Return
		case SetMark:
			p.Mark = p.Mark&^r.Target.Mask ^ r.Target.Value
		case Goto:
			return e.run(chainKey{at.table, r.Target.Chain}, p, steps)
		case Jump:
			if v := e.run(chainKey{at.table, r.Target.Chain}, p, steps); v != Return {
				return v
			}
		}
	}
	return Return
}
