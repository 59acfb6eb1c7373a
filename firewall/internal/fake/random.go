package fake

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Ruleset makes up a valid rule set: in some tables, a tree of chains below some
// hooks.
func Ruleset(rnd *rand.Rand, family xfrm.Family) rules.Ruleset {
	rs := rules.Ruleset{Family: family}
	for _, t := range []struct {
		name  rules.Table
		hooks []string
	}{
		{rules.Mangle, []string{"FORWARD", "INPUT", "OUTPUT", "POSTROUTING", "PREROUTING"}},
		{rules.Filter, []string{"FORWARD", "INPUT", "OUTPUT"}},
		{rules.NAT, []string{"POSTROUTING"}},
	} {
		if rnd.IntN(4) == 0 {
			continue
		}
		g := generator{rnd, family, t.name, nil}
		for _, from := range t.hooks {
			if rnd.IntN(3) == 0 {
				continue
			}
			to := rules.ChainPrefix + from[:3]
			rs.Hooks = append(rs.Hooks, rules.Hook{Table: t.name, From: from, To: to})
			g.chain(to, 0)
		}
		slices.SortFunc(g.chains, func(a, b rules.Chain) int { return strings.Compare(a.Name, b.Name) })
		rs.Chains = append(rs.Chains, g.chains...)
	}
	return rs
}

type generator struct {
	rnd    *rand.Rand
	family xfrm.Family
	table  rules.Table
	chains []rules.Chain
}

func (g *generator) chain(name string, depth int) {
	var list []rules.Rule
	for range g.rnd.IntN(5) {
		list = append(list, g.rule())
	}
	if depth < 3 {
		for i := range g.rnd.IntN(3) {
			child := fmt.Sprintf("%s-%d", name, i)
			r := g.rule()
			r.Target = rules.Target{Verb: rules.Jump, Chain: child}
			if g.rnd.IntN(2) == 0 {
				r.Target.Verb = rules.Goto
			}
			list = append(list, r)
			g.chain(child, depth+1)
		}
	}
	g.chains = append(g.chains, rules.Chain{Table: g.table, Name: name, Rules: rules.ListOf(list...)})
}

// rule makes up one of few rules, so that equal ones occur in a chain and from
// one rule set to the next.
func (g *generator) rule() rules.Rule {
	prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(g.rnd.IntN(4)), 0, 0}), 16)
	if g.family == xfrm.IPv6 {
		prefix = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, byte(g.rnd.IntN(4))}), 32)
	}
	r := rules.Rule{Src: prefix, Purpose: "test"}
	switch g.rnd.IntN(4) {
	case 0:
		r.Target.Verb = rules.Accept
	case 1:
		r.Target.Verb = rules.Return
	case 2:
		r.Tunnel = "t1"
		r.Proto, r.DPorts = xfrm.TCP, firewall.Port(22)
	}
	return r
}

// foreign are rules of others, without "-A CHAIN", that are hard to read.
var foreign = []string{
	`-m comment --comment "a rule with spaces" -j ACCEPT`,
	`-m comment --comment "quo\"tes and \\ and 'more'" -j ACCEPT`,
	`-m comment --comment "-j XFRMFW-PRE" -j ACCEPT`,
	`-m comment --comment -j -j ACCEPT`,
	`-m comment --comment "xfrmfw:AAAAAAAAAAAA/jump" -j ACCEPT`,
	`-p tcp -m tcp --dport 80 -m comment --comment "# no comment; $(x) *filter COMMIT" -j ACCEPT`,
	`-p udp -m udp --dport 53`,
	`-m mark --mark 0x1/0x1 -j RETURN`,
}

// Mischief returns restore text that changes live rules as other programs do: their own
// and ours.
func Mischief(rnd *rand.Rand, s live.Tables) string {
	if len(s.Tables) == 0 {
		return "*filter\n-A INPUT " + foreign[rnd.IntN(len(foreign))] + "\nCOMMIT\n"
	}
	t := s.Tables[rnd.IntN(len(s.Tables))]
	c := t.Chains[rnd.IntN(len(t.Chains))]
	rule := foreign[rnd.IntN(len(foreign))]
	lines := []string{"-I " + c.Name + " " + rule}
	switch rnd.IntN(6) {
	case 0:
		lines = []string{"-A " + c.Name + " " + rule}
	case 1:
		lines = nil
		if len(c.Rules) > 0 {
			// -D finds the first of equal rules.
			lines = []string{"-D " + c.Name + " " + c.Rules[rnd.IntN(len(c.Rules))].Raw}
		}
	case 2:
		lines = []string{"-F " + c.Name}
	case 3:
		lines = nil
		for _, r := range c.Rules {
			if r.Jump() {
				lines = append(lines, "-A "+c.Name+" "+r.Raw)
			}
		}
	case 4:
		lines = append([]string{":THEIRS - [0:0]", "-A THEIRS " + rule}, lines...)
		if c.Name != "THEIRS" {
			lines = append(lines, "-A "+c.Name+" -j THEIRS")
		}
	}
	return "*" + string(t.Name) + "\n" + strings.Join(append(lines, "COMMIT"), "\n") + "\n"
}
