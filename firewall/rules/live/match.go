package live

import "github.com/xfrmfw/xfrmfw/firewall/rules"

// Matched is a wanted rule set as it stands in the kernel.
type Matched struct {
	// Ruleset has the wanted rules that stand, in their live order and place,
	// and the hooks with jumps in place.
	Ruleset rules.Ruleset
	// Unexpected are the rules in our chains that are not wanted: from an earlier apply,
	// or by another program. Their effect is not known.
	Unexpected []UnexpectedRule
}

// UnexpectedRule is a rule in a chain of ours that is not wanted there.
type UnexpectedRule struct {
	Table rules.Table
	Chain string
	// Text is the rule as iptables-save prints it, without "-A CHAIN".
	Text string
}

// Match looks up the wanted rules in the output of iptables-save of their family. An
// Evaluator of the result finds a packet's verdict by the live rules, without the
// unexpected ones.
func Match(want rules.Ruleset, have Tables) Matched {
	type key struct {
		table     rules.Table
		chain, id string
	}
	known := make(map[key]rules.Rule)
	for _, c := range want.Chains {
		for _, r := range c.Rules.All() {
			known[key{c.Table, c.Name, rules.ID(want.Family, c.Table, c.Name, r)}] = r
		}
	}
	out := Matched{Ruleset: rules.Ruleset{Family: want.Family}}
	for _, t := range have.Tables {
		for _, c := range t.Chains {
			if !c.Ours() {
				continue
			}
			var list []rules.Rule
			for _, r := range c.Rules {
				if rule, ok := known[key{t.Name, c.Name, r.ID}]; ok {
					list = append(list, rule)
				} else {
					out.Unexpected = append(out.Unexpected, UnexpectedRule{t.Name, c.Name, r.Raw})
				}
			}
			out.Ruleset.Chains = append(out.Ruleset.Chains, rules.Chain{Table: t.Name, Name: c.Name, Rules: rules.ListOf(list...)})
		}
	}
	for _, h := range want.Hooks {
		c, _ := have.Table(h.Table).Chain(h.From)
		for _, r := range c.Rules {
			if r.Jump() && r.Target == h.To {
				out.Ruleset.Hooks = append(out.Ruleset.Hooks, h)
				break
			}
		}
	}
	return out
}

// ForeignRules are the rules of others in a builtin chain, and its policy. They decide on
// packets that our part of the chain returns.
type ForeignRules struct {
	// Before and After count the rules of others before and after our jumps.
	Before, After int
	// Policy is the chain's, ACCEPT or DROP, empty if it is not known.
	Policy string
}

// ForeignIn looks at the builtin chain of a table.
func ForeignIn(have Tables, table rules.Table, hook string) ForeignRules {
	c, _ := have.Table(table).Chain(hook)
	rest := ForeignRules{Policy: c.Policy}
	jumped := false
	for _, r := range c.Rules {
		switch {
		case r.Jump():
			jumped = true
		case jumped:
			rest.After++
		default:
			rest.Before++
		}
	}
	if !jumped {
		rest.Before, rest.After = 0, rest.Before
	}
	return rest
}
