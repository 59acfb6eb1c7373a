package plan_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// small is a rule set of one chain in mangle and one in filter.
func small(list ...rules.Rule) rules.Ruleset {
	return rules.Ruleset{
		Family: xfrm.IPv4,
		Chains: []rules.Chain{
			{Table: rules.Mangle, Name: "XFRMFW-PRE", Rules: rules.ListOf(list...)},
			{Table: rules.Filter, Name: "XFRMFW-IN", Rules: rules.ListOf(accept("10.9.0.0/16"))},
		},
		Hooks: []rules.Hook{
			{Table: rules.Mangle, From: "PREROUTING", To: "XFRMFW-PRE"},
			{Table: rules.Filter, From: "INPUT", To: "XFRMFW-IN"},
		},
	}
}

func accept(src string) rules.Rule {
	return rules.Rule{Src: netip.MustParsePrefix(src), Target: rules.Target{Verb: rules.Accept}, Purpose: "test"}
}

func drop(src string) rules.Rule {
	r := accept(src)
	r.Target.Verb = rules.Drop
	return r
}

func TestPlanText(t *testing.T) {
	k := &fake.Kernel{}
	mustRestore(t, k, "*mangle\n-A PREROUTING -i eth0 -j ACCEPT\nCOMMIT\n", false)
	change := mustPlan(t, k, small(drop("10.1.0.0/16")))
	want := []string{
		`*mangle
:XFRMFW-PRE - [0:0]
-A XFRMFW-PRE -s 10.1.0.0/16 -j DROP -m comment --comment xfrmfw:pGc9WNCR9taI/test
-I PREROUTING 1 -j XFRMFW-PRE -m comment --comment xfrmfw:K61wQhO2wtEH/jump
COMMIT
`,
		`*filter
:XFRMFW-IN - [0:0]
-A XFRMFW-IN -s 10.9.0.0/16 -j ACCEPT -m comment --comment xfrmfw:E8rznCzGWxUG/test
-I INPUT 1 -j XFRMFW-IN -m comment --comment xfrmfw:UbfVqCn0QIH8/jump
COMMIT
`,
	}
	if diff := cmp.Diff(want, texts(change)); diff != "" {
		t.Errorf("first plan (-want +got):\n%s", diff)
	}
	apply(t, k, change)

	// A rule comes in front: the other keeps its counters, the jump is let be.
	k.Count()
	change = mustPlan(t, k, small(drop("10.2.0.0/16"), drop("10.1.0.0/16")))
	want = []string{`*mangle
:XFRMFW-PRE - [0:0]
[0:0] -A XFRMFW-PRE -s 10.2.0.0/16 -j DROP -m comment --comment xfrmfw:3WUrlAT9O1pe/test
[1:100] -A XFRMFW-PRE -s 10.1.0.0/16 -j DROP -m comment --comment xfrmfw:pGc9WNCR9taI/test
COMMIT
`}
	if diff := cmp.Diff(want, texts(change)); diff != "" {
		t.Errorf("second plan (-want +got):\n%s", diff)
	}
	if !change.Steps[0].Counters {
		t.Error("a text with counters does not ask for --counters")
	}
	apply(t, k, change)

	// A foreign rule displaces the jump.
	mustRestore(t, k, "*mangle\n-I PREROUTING -i eth1 -j ACCEPT\nCOMMIT\n", false)
	change = mustPlan(t, k, small(drop("10.2.0.0/16"), drop("10.1.0.0/16")))
	want = []string{`*mangle
-D PREROUTING -m comment --comment "xfrmfw:K61wQhO2wtEH/jump" -j XFRMFW-PRE
[1:100] -I PREROUTING 1 -j XFRMFW-PRE -m comment --comment xfrmfw:K61wQhO2wtEH/jump
COMMIT
`}
	if diff := cmp.Diff(want, texts(change)); diff != "" {
		t.Errorf("plan after an insert (-want +got):\n%s", diff)
	}
	apply(t, k, change)

	// Clearing goes the other way round.
	change, err := plan.Clear(saves(t, k))
	if err != nil {
		t.Fatal(err)
	}
	want = []string{
		`*filter
:XFRMFW-IN - [0:0]
-D INPUT -m comment --comment "xfrmfw:UbfVqCn0QIH8/jump" -j XFRMFW-IN
-X XFRMFW-IN
COMMIT
`,
		`*mangle
:XFRMFW-PRE - [0:0]
-D PREROUTING -m comment --comment "xfrmfw:K61wQhO2wtEH/jump" -j XFRMFW-PRE
-X XFRMFW-PRE
COMMIT
`,
	}
	if diff := cmp.Diff(want, texts(change)); diff != "" {
		t.Errorf("clear (-want +got):\n%s", diff)
	}
}

func TestPlanDifferences(t *testing.T) {
	rs := small(drop("10.1.0.0/16"), drop("10.2.0.0/16"))
	id := func(i int) string {
		return string(rules.AppendLine(nil, xfrm.IPv4, rules.Mangle, "XFRMFW-PRE", rs.Chains[0].Rules.Slice()[i]))
	}
	jump := "-m comment --comment xfrmfw:" + rs.Hooks[0].ID(xfrm.IPv4) + "/jump -j XFRMFW-PRE"
	for _, tt := range []struct {
		name, meddle string
		want         []string
	}{
		{"nothing", "", nil},
		{"foreign rule", "-A PREROUTING -j ACCEPT", nil},
		{"rule deleted", "-D XFRMFW-PRE " + id(0), []string{"ipv4 mangle XFRMFW-PRE: rule missing: " + id(0)}},
		{"rule added", "-A XFRMFW-PRE -j ACCEPT", []string{"ipv4 mangle XFRMFW-PRE: rule unexpected: -j ACCEPT"}},
		{"order", "-D XFRMFW-PRE " + id(0) + "\n-A XFRMFW-PRE " + id(0), []string{"ipv4 mangle XFRMFW-PRE: rules in another order"}},
		{"jump deleted", "-D PREROUTING " + jump, []string{"ipv4 mangle PREROUTING: jump missing: " + unquoted(rs.Hooks[0])}},
		{"jump twice", "-I PREROUTING 1 " + jump, []string{"ipv4 mangle PREROUTING: jump more than once: " + unquoted(rs.Hooks[0])}},
		{"jump displaced", "-I PREROUTING 1 -j ACCEPT", []string{"ipv4 mangle PREROUTING: jump not first: " + unquoted(rs.Hooks[0])}},
		{"jump elsewhere", "-A OUTPUT " + jump, []string{"ipv4 mangle OUTPUT: jump unexpected: " + strings.Replace(strings.Replace(jump, "xfrmfw", `"xfrmfw`, 1), "/jump", `/jump"`, 1)}},
		{"chain added", ":XFRMFW-OLD - [0:0]\n-A XFRMFW-OLD -j DROP", []string{
			"ipv4 mangle XFRMFW-OLD: chain unexpected", "ipv4 mangle XFRMFW-OLD: rule unexpected: -j DROP"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := &fake.Kernel{}
			apply(t, k, mustPlan(t, k, rs))
			if tt.meddle != "" {
				mustRestore(t, k, "*mangle\n"+tt.meddle+"\nCOMMIT\n", false)
			}
			change := mustPlan(t, k, rs)
			var got []string
			for _, d := range change.Differences {
				got = append(got, d.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("differences (-want +got):\n%s", diff)
			}
			if change.Empty() != (len(tt.want) == 0) {
				t.Errorf("Empty() = %v with %d differences", change.Empty(), len(tt.want))
			}
			apply(t, k, change)
			if again := mustPlan(t, k, rs); !again.Empty() {
				t.Errorf("second plan is not empty:\n%s", again.Steps[0].Text)
			}
		})
	}
}

// TestPlanForeignReference: a foreign rule that leads to a chain of ours is not
// ours to delete, so the chain stays, empty, and the next plan is content.
func TestPlanForeignReference(t *testing.T) {
	k := &fake.Kernel{}
	apply(t, k, mustPlan(t, k, small(drop("10.1.0.0/16"))))
	mustRestore(t, k, "*mangle\n-A FORWARD -i eth0 -j XFRMFW-PRE\nCOMMIT\n", false)
	for range 2 {
		change, err := plan.Clear(saves(t, k))
		if err != nil {
			t.Fatal(err)
		}
		apply(t, k, change)
		if len(change.Leftovers) != 1 || change.Leftovers[0].Kind != plan.ChainReferenced {
			t.Errorf("leftovers %v", change.Leftovers)
		}
	}
	if change, _ := plan.Clear(saves(t, k)); !change.Empty() {
		t.Errorf("second clear is not empty: %s", change.Steps[0].Text)
	}
}

func TestPlanUnreadable(t *testing.T) {
	save := live.Tables{Unreadable: []rules.Table{rules.Filter}}
	have := map[xfrm.Family]live.Tables{xfrm.IPv4: save}
	_, err := plan.Make([]rules.Ruleset{small()}, have)
	var unreadable *plan.UnreadableError
	if !errors.As(err, &unreadable) || unreadable.Table != rules.Filter {
		t.Errorf("got %v", err)
	}
	// iptables 1.8.7 says the same of rules that 1.8.9 wrote.
	if !strings.Contains(err.Error(), "of a newer iptables") {
		t.Errorf("%v: blames the rules of nftables alone", err)
	}
	change, err := plan.Clear(have)
	if err != nil || len(change.Leftovers) != 1 || !change.Empty() {
		t.Errorf("clear: %v, %v", change, err)
	}
}

// TestPlanAnyState walks through wanted rule sets in random order while others
// meddle: from any state, one plan leads to the wanted one, leaves foreign rules
// and counters alone, and finds nothing left to do.
func TestPlanAnyState(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		family := []xfrm.Family{xfrm.IPv4, xfrm.IPv6}[seed%2]
		k := &fake.Kernel{}
		for range 12 {
			for range rnd.IntN(4) {
				// Some of it is refused, as it would be.
				_ = k.Restore(fake.Mischief(rnd, parse(t, k)), false)
			}
			k.Count()
			rs := fake.Ruleset(rnd, family)
			before := parse(t, k)
			have := map[xfrm.Family]live.Tables{family: before}
			change, err := plan.Make([]rules.Ruleset{rs}, have)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			apply(t, k, change)
			after := parse(t, k)
			if s := fake.Differs(rs, after); s != "" {
				t.Fatalf("seed %d: %s\nbefore:\n%s\nsteps:\n%s", seed, s, before.Append(nil), strings.Join(texts(change), ""))
			}
			if diff := cmp.Diff(fake.Foreign(before), fake.Foreign(after)); diff != "" {
				t.Fatalf("seed %d: foreign rules (-before +after):\n%s", seed, diff)
			}
			if again, _ := plan.Make([]rules.Ruleset{rs}, map[xfrm.Family]live.Tables{family: after}); !again.Empty() {
				t.Fatalf("seed %d: the second plan is not empty:\n%s", seed, again.Steps[0].Text)
			}
			if rnd.IntN(3) > 0 {
				continue
			}
			// And back again, rule by rule.
			back, err := plan.Rollback(have, map[xfrm.Family]live.Tables{family: after})
			if err != nil {
				t.Fatal(err)
			}
			apply(t, k, back)
			if diff := cmp.Diff(ruleLines(before), ruleLines(parse(t, k))); diff != "" {
				t.Fatalf("seed %d: rolled back (-before +after):\n%s", seed, diff)
			}
		}
	}
}

// TestPlanDeterministic: chains may come in any order.
func TestPlanDeterministic(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		rs := fake.Ruleset(rnd, xfrm.IPv4)
		k := &fake.Kernel{}
		want := texts(mustPlan(t, k, rs))
		rnd.Shuffle(len(rs.Chains), func(i, j int) { rs.Chains[i], rs.Chains[j] = rs.Chains[j], rs.Chains[i] })
		rnd.Shuffle(len(rs.Hooks), func(i, j int) { rs.Hooks[i], rs.Hooks[j] = rs.Hooks[j], rs.Hooks[i] })
		if diff := cmp.Diff(want, texts(mustPlan(t, k, rs))); diff != "" {
			t.Fatalf("seed %d (-sorted +shuffled):\n%s", seed, diff)
		}
	}
}

// TestPlanOrder: mangle of both families comes before anything that accepts on
// its word, and goes after.
func TestPlanOrder(t *testing.T) {
	full := func(family xfrm.Family) rules.Ruleset {
		rs := rules.Ruleset{Family: family}
		for table, from := range map[rules.Table]string{rules.Mangle: "FORWARD", rules.Filter: "FORWARD", rules.NAT: "POSTROUTING"} {
			rs.Chains = append(rs.Chains, rules.Chain{Table: table, Name: "XFRMFW-X"})
			rs.Hooks = append(rs.Hooks, rules.Hook{Table: table, From: from, To: "XFRMFW-X"})
		}
		return rs
	}
	k4, k6 := &fake.Kernel{}, &fake.Kernel{}
	have := func() map[xfrm.Family]live.Tables {
		return map[xfrm.Family]live.Tables{xfrm.IPv4: parse(t, k4), xfrm.IPv6: parse(t, k6)}
	}
	order := func(c plan.Change, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		s := ""
		for _, step := range c.Steps {
			s += fmt.Sprintf("%s-%s ", step.Table, step.Family)
			k := k4
			if step.Family == xfrm.IPv6 {
				k = k6
			}
			mustRestore(t, k, step.Text, step.Counters)
		}
		return strings.TrimSpace(s)
	}
	grow := order(plan.Make([]rules.Ruleset{full(xfrm.IPv4), full(xfrm.IPv6)}, have()))
	if want := "mangle-ipv4 mangle-ipv6 nat-ipv4 nat-ipv6 filter-ipv4 filter-ipv6"; grow != want {
		t.Errorf("growing: %s", grow)
	}
	// IPv6 goes, IPv4 stays but has changed.
	rs := full(xfrm.IPv4)
	rs.Chains[0].Rules = rules.ListOf(rules.Rule{Purpose: "x"})
	mixed := order(plan.Make([]rules.Ruleset{rs}, have()))
	if want := fmt.Sprintf("filter-ipv6 nat-ipv6 mangle-ipv6 %s-ipv4", rs.Chains[0].Table); mixed != want {
		t.Errorf("mixed: %s", mixed)
	}
	// The guards, in mangle, stay: the accepts still go first.
	rs.Chains, rs.Hooks = rs.Chains[:0], rs.Hooks[:0]
	for _, c := range full(xfrm.IPv4).Chains {
		if c.Table == rules.Mangle {
			c.Rules = rules.ListOf(rules.Rule{Purpose: "guard"})
			rs.Chains = append(rs.Chains, c)
			rs.Hooks = append(rs.Hooks, rules.Hook{Table: c.Table, From: "FORWARD", To: c.Name})
		}
	}
	if got, want := order(plan.Make([]rules.Ruleset{rs}, have())), "filter-ipv4 nat-ipv4 mangle-ipv4"; got != want {
		t.Errorf("shrinking: %s", got)
	}
}

func texts(c plan.Change) []string {
	var list []string
	for _, s := range c.Steps {
		list = append(list, s.Text)
	}
	return list
}

// rules lists all rules without counters.
func ruleLines(s live.Tables) []string {
	list := []string{}
	for _, t := range s.Tables {
		for _, c := range t.Chains {
			if c.Ours() {
				list = append(list, fmt.Sprintf("%s :%s", t.Name, c.Name))
			}
			for _, r := range c.Rules {
				list = append(list, fmt.Sprintf("%s -A %s %s", t.Name, c.Name, r.Raw))
			}
		}
	}
	slices.SortStableFunc(list, func(a, b string) int { return strings.Compare(group(a), group(b)) })
	return list
}

func unquoted(h rules.Hook) string {
	return fmt.Sprintf("-j %s -m comment --comment xfrmfw:%s/jump", h.To, h.ID(xfrm.IPv4))
}

func parse(t *testing.T, k *fake.Kernel) live.Tables {
	t.Helper()
	s, err := live.Parse(k.Save())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func saves(t *testing.T, k *fake.Kernel) map[xfrm.Family]live.Tables {
	t.Helper()
	return map[xfrm.Family]live.Tables{xfrm.IPv4: parse(t, k)}
}

func mustPlan(t *testing.T, k *fake.Kernel, rs rules.Ruleset) plan.Change {
	t.Helper()
	change, err := plan.Make([]rules.Ruleset{rs}, saves(t, k))
	if err != nil {
		t.Fatal(err)
	}
	return change
}

func mustRestore(t *testing.T, k *fake.Kernel, text string, counters bool) {
	t.Helper()
	if err := k.Restore(text, counters); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

func apply(t *testing.T, k *fake.Kernel, c plan.Change) {
	t.Helper()
	for _, s := range c.Steps {
		mustRestore(t, k, s.Text, s.Counters)
	}
}

// group is table and chain of a listed rule.
func group(line string) string {
	words := strings.SplitN(line, " ", 4)
	return words[0] + strings.TrimPrefix(strings.Join(words[1:min(3, len(words))], ""), "-A")
}
