package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

const (
	// maxChainName is the longest name that both variants take.
	maxChainName = 28
	// maxDepth is how deep nftables lets chains lead to chains, the builtin one
	// not counted (NFT_JUMP_STACK_SIZE is 16). Gotos count like jumps.
	maxDepth = 15
)

// Hooks is a set of builtin chains.
type Hooks uint8

const (
	prerouting Hooks = 1 << iota
	input
	forward
	output
	postrouting
)

var hookNames = [...]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}

func hookOf(chain string) Hooks {
	if i := slices.Index(hookNames[:], chain); i >= 0 {
		return 1 << i
	}
	return 0
}

// builtins are the builtin chains of each table that we write to.
func builtins(t Table) Hooks {
	switch t {
	case Mangle:
		return prerouting | input | forward | output | postrouting
	case Filter:
		return input | forward | output
	case NAT:
		return prerouting | input | output | postrouting
	}
	return 0
}

// Validate reports the first thing in a rule set that iptables or the kernel
// would refuse, alter or never match, or that would not come back from
// iptables-save as it was sent. iptables-restore --test finds little of it: it
// asks the kernel nothing.
func Validate(rs Ruleset) error {
	return ValidateChanged(rs, func(*Chain, Hooks) bool { return false })
}

// ValidateChanged is Validate without the rules of those chains for which known
// returns true: they are known to be valid from these hooks.
func ValidateChanged(rs Ruleset, known func(c *Chain, from Hooks) bool) error {
	if rs.Family != xfrm.IPv4 && rs.Family != xfrm.IPv6 {
		return fmt.Errorf("rule set of %s: neither ipv4 nor ipv6", rs.Family)
	}
	graphs := make(map[Table]*graph)
	for i := range rs.Chains {
		c := &rs.Chains[i]
		if builtins(c.Table) == 0 {
			return fmt.Errorf("%s %s: no such table", rs.Family, c.Table)
		}
		if err := validName(c.Name); err != nil {
			return fmt.Errorf("%s %s: %w", rs.Family, c.Table, err)
		}
		g := graphs[c.Table]
		if g == nil {
			g = &graph{index: make(map[string]int)}
			graphs[c.Table] = g
		}
		if _, ok := g.index[c.Name]; ok {
			return fmt.Errorf("%s %s %s: declared twice", rs.Family, c.Table, c.Name)
		}
		g.index[c.Name] = len(g.chains)
		g.chains = append(g.chains, node{Chain: c})
	}
	for i, h := range rs.Hooks {
		if err := hook(graphs, rs.Hooks[:i], h); err != nil {
			return fmt.Errorf("%s %s %s: %w", rs.Family, h.Table, h.From, err)
		}
	}
	for _, t := range tables {
		if g := graphs[t]; g != nil {
			if err := g.validate(rs.Family, known); err != nil {
				return fmt.Errorf("%s %s %w", rs.Family, t, err)
			}
		}
	}
	return nil
}

func validName(name string) error {
	switch {
	case !Ours(name):
		return fmt.Errorf("chain %q does not begin with %s", name, ChainPrefix)
	case len(name) > maxChainName:
		return fmt.Errorf("chain %q is longer than %d bytes", name, maxChainName)
	case !safeText(name) || strings.ContainsAny(name, ":/="):
		return fmt.Errorf("chain %q has characters other than letters, digits, '.', '_' and '-'", name)
	}
	return nil
}

func hook(graphs map[Table]*graph, before []Hook, h Hook) error {
	if hookOf(h.From)&builtins(h.Table) == 0 {
		return errors.New("no such builtin chain")
	}
	for _, b := range before {
		if b.Table == h.Table && b.From == h.From {
			return errors.New("has two hooks")
		}
	}
	g := graphs[h.Table]
	if g == nil {
		return fmt.Errorf("the hook leads to %q, which is not declared", h.To)
	}
	i, ok := g.index[h.To]
	if !ok {
		return fmt.Errorf("the hook leads to %q, which is not declared", h.To)
	}
	g.chains[i].hooks |= hookOf(h.From)
	g.chains[i].depth = 1
	return nil
}

// graph is how the chains of a table lead to each other.
type graph struct {
	index  map[string]int
	chains []node
	order  []int
}

type node struct {
	*Chain
	// hooks are those from which the chain is reached, after how many jumps at
	// the most.
	hooks Hooks
	depth int
	// state is 0 before the walk, 1 in it, 2 after it.
	state uint8
}

func (g *graph) validate(family xfrm.Family, known func(*Chain, Hooks) bool) error {
	for i := range g.chains {
		if err := g.walk(i); err != nil {
			return err
		}
	}
	// The walk leaves a chain after all that it leads to, so from the end of
	// the order each chain comes before those that it leads to.
	for _, i := range slices.Backward(g.order) {
		n := &g.chains[i]
		if n.hooks == 0 {
			return fmt.Errorf("%s: no hook leads there", n.Name)
		}
		if n.depth > maxDepth {
			return fmt.Errorf("%s: %d jumps deep, nftables allows %d", n.Name, n.depth, maxDepth)
		}
		if !known(n.Chain, n.hooks) {
			if err := validRules(family, n.Chain, n.hooks); err != nil {
				return err
			}
		}
		for _, name := range n.Rules.Leads() {
			to := &g.chains[g.index[name]]
			to.hooks |= n.hooks
			to.depth = max(to.depth, n.depth+1)
		}
	}
	return nil
}

// validRules reports the first rule of a chain, reached from those hooks, that is not
// valid.
func validRules(family xfrm.Family, c *Chain, from Hooks) error {
	for i, r := range c.Rules.All() {
		if err := validRule(family, c.Table, from, &r); err != nil {
			return fmt.Errorf("%s: rule %d (%s): %w", c.Name, i+1, r.Text(family), err)
		}
	}
	return nil
}

func (g *graph) walk(i int) error {
	n := &g.chains[i]
	switch n.state {
	case 1:
		return fmt.Errorf("%s: leads back to itself", n.Name)
	case 2:
		return nil
	}
	n.state = 1
	for _, name := range n.Rules.Leads() {
		to, ok := g.index[name]
		if !ok {
			return fmt.Errorf("%s: leads to %q, which is not declared", n.Name, name)
		}
		if err := g.walk(to); err != nil {
			return err
		}
	}
	n.state = 2
	g.order = append(g.order, i)
	return nil
}

func (r *Rule) Leads() bool { return r.Target.Verb == Jump || r.Target.Verb == Goto }
