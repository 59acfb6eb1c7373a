package plan_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// compared lists the changes that Compare finds, one line each.
func compared(want rules.Ruleset, have live.Tables) []string {
	var lines []string
	for _, c := range plan.Compare([]rules.Ruleset{want}, map[xfrm.Family]live.Tables{want.Family: have}) {
		lines = append(lines, fmt.Sprintf("%s %s: %s", c.Table, c.Chain, c.Kind))
		for _, l := range c.Lines {
			lines = append(lines, fmt.Sprintf("%s %s (%s) %d %d", l.Op, l.Text, l.Purpose, l.From, l.To))
		}
	}
	return lines
}

func TestCompare(t *testing.T) {
	logged := drop("10.5.0.0/16")
	logged.Target = rules.Target{Verb: rules.Log, Prefix: "xfrmfw:crossed:"}
	a, b, c, d := drop("10.1.0.0/16"), drop("10.2.0.0/16"), drop("10.3.0.0/16"), drop("10.4.0.0/16")
	for _, test := range []struct {
		name     string
		old, new []rules.Rule
		meddle   string
		want     []string
	}{
		{name: "nothing", old: []rules.Rule{a, b}, new: []rules.Rule{a, b}},
		{name: "in the middle", old: []rules.Rule{a, b, c}, new: []rules.Rule{a, d, c}, want: []string{
			"mangle XFRMFW-PRE: chain", "- -s 10.2.0.0/16 -j DROP (test) 2 0", "+ -s 10.4.0.0/16 -j DROP (test) 0 2"}},
		{name: "to the front", old: []rules.Rule{a, b, c}, new: []rules.Rule{c, a, b}, want: []string{
			"mangle XFRMFW-PRE: chain", "> -s 10.3.0.0/16 -j DROP (test) 3 1"}},
		{name: "one of two alike", old: []rules.Rule{a, b, a}, new: []rules.Rule{b, a}, want: []string{
			"mangle XFRMFW-PRE: chain", "- -s 10.1.0.0/16 -j DROP (test) 1 0"}},
		{name: "a log rule, whose prefix begins as a comment does", old: []rules.Rule{a}, new: []rules.Rule{logged, a}, want: []string{
			"mangle XFRMFW-PRE: chain", "+ -s 10.5.0.0/16 -j LOG --log-prefix xfrmfw:crossed: (test) 0 1"}},
		{name: "a chain that is new, and one that goes", old: []rules.Rule{a}, new: []rules.Rule{a},
			meddle: "*mangle\n:XFRMFW-OLD - [0:0]\n:XFRMFW-HELD - [0:0]\n-A XFRMFW-HELD -j ACCEPT\n-A OUTPUT -j XFRMFW-HELD\nCOMMIT\n*filter\n-D INPUT -j XFRMFW-IN -m comment --comment xfrmfw:UbfVqCn0QIH8/jump\n:XFRMFW-IN - [0:0]\n-X XFRMFW-IN\nCOMMIT\n",
			want: []string{
				"mangle XFRMFW-HELD: chain emptied, kept for a rule of others", "- -j ACCEPT () 1 0",
				"mangle XFRMFW-OLD: chain deleted",
				"filter INPUT: builtin chain", "+ -j XFRMFW-IN (jump) 0 1",
				"filter XFRMFW-IN: new chain", "+ -s 10.9.0.0/16 -j ACCEPT (test) 0 1"}},
		{name: "a jump that is no longer first", old: []rules.Rule{a}, new: []rules.Rule{a},
			meddle: "*mangle\n-I PREROUTING 1 -j ACCEPT\nCOMMIT\n",
			want:   []string{"mangle PREROUTING: builtin chain", "> -j XFRMFW-PRE (jump) 2 1"}},
		{name: "somebody's rule in our chain", old: []rules.Rule{a}, new: []rules.Rule{a},
			meddle: "*mangle\n-A XFRMFW-PRE -m comment --comment hello -j ACCEPT\nCOMMIT\n",
			want:   []string{"mangle XFRMFW-PRE: chain", "- -m comment --comment \"hello\" -j ACCEPT () 2 0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := &fake.Kernel{}
			for _, s := range mustPlan(t, k, small(test.old...)).Steps {
				mustRestore(t, k, s.Text, s.Counters)
			}
			if test.meddle != "" {
				mustRestore(t, k, test.meddle, false)
			}
			save, err := live.Parse(k.Save())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, compared(small(test.new...), save)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// The changes of Compare lead from the rules that stand to those that are wanted, and
// Compare finds some exactly where Plan has something to do.
func TestCompareIsPlan(t *testing.T) {
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		k := &fake.Kernel{}
		for _, s := range mustPlan(t, k, fake.Ruleset(rnd, xfrm.IPv4)).Steps {
			mustRestore(t, k, s.Text, s.Counters)
		}
		want := fake.Ruleset(rnd, xfrm.IPv4)
		save, err := live.Parse(k.Save())
		if err != nil {
			t.Fatal(err)
		}
		have := map[xfrm.Family]live.Tables{xfrm.IPv4: save}
		changes := plan.Compare([]rules.Ruleset{want}, have)
		if plan := mustPlan(t, k, want); plan.Empty() != (len(changes) == 0) {
			t.Fatalf("seed %d: %d changes, and the plan is empty: %v", seed, len(changes), plan.Empty())
		}
		for _, c := range changes {
			if c.Kind != plan.ChainChanged && c.Kind != plan.ChainNew {
				continue
			}
			old, _ := save.Table(c.Table).Chain(c.Chain)
			i := slices.IndexFunc(want.Chains, func(w rules.Chain) bool { return w.Table == c.Table && w.Name == c.Chain })
			var wanted []string
			for _, r := range want.Chains[i].Rules.All() {
				wanted = append(wanted, r.Text(xfrm.IPv4))
			}
			if got := follow(old, c); len(got) != len(wanted) || !sameIDs(want.Chains[i], got) {
				t.Fatalf("seed %d: %s %s: following the changes leads to %q, want %q", seed, c.Table, c.Chain, got, wanted)
			}
		}
	}
}

// follow makes the changes to a chain, and returns the IDs of its rules, or the
// text for those that came.
func follow(old live.Chain, c plan.ChainChange) []string {
	goes, comes := make(map[int]bool), make(map[int]string)
	for _, l := range c.Lines {
		switch l.Op {
		case plan.LineRemoved:
			goes[l.From] = true
		case plan.LineAdded:
			comes[l.To] = "text " + l.Text
		case plan.LineMoved:
			goes[l.From], comes[l.To] = true, old.Rules[l.From-1].ID
		}
	}
	var left []string
	for i, r := range old.Rules {
		if !goes[i+1] {
			left = append(left, r.ID)
		}
	}
	var all []string
	for at := 1; len(left)+len(comes) > 0; at++ {
		if text, ok := comes[at]; ok {
			all = append(all, text)
			delete(comes, at)
			continue
		}
		if len(left) == 0 {
			return nil
		}
		all, left = append(all, left[0]), left[1:]
	}
	return all
}

func sameIDs(c rules.Chain, got []string) bool {
	for i, r := range c.Rules.All() {
		if got[i] != rules.ID(xfrm.IPv4, c.Table, c.Name, r) && got[i] != "text "+r.Text(xfrm.IPv4) {
			return false
		}
	}
	return true
}
