package plan_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Ups, downs, rekeys and changes of selectors, hundreds of them here and thousands in
// scripts/soak, which sets XFRMFW_CHURN. A Compiler and a Tracker that know the past make
// the same as Compile and Plan that know nothing, byte for byte. It leads the kernel to
// the wanted rules, also after a commit that failed. Nobody writes to results of theirs
// from earlier.
func TestChurnIsWhatIsMadeAfresh(t *testing.T) {
	steps, unchanged, failed, remembered := 0, 0, 0, 0
	type made struct{ fresh, kept compile.Result }
	did := make(map[string]int)
	seeds, err := strconv.ParseUint(cmp.Or(os.Getenv("XFRMFW_CHURN"), "2"), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(seed, 77))
		w := fake.NewWorld()
		var compiler compile.Compiler
		var tracker plan.Tracker
		kernels := map[xfrm.Family]*fake.Kernel{xfrm.IPv4: {}, xfrm.IPv6: {}}
		model := map[xfrm.Family]live.Tables{xfrm.IPv4: {}, xfrm.IPv6: {}}
		read := func() {
			for family, k := range kernels {
				model[family] = parse(t, k)
			}
			tracker.Observed(maps.Clone(model))
		}
		read()
		var earlier []made
		for step := range 200 {
			for range 1 + r.IntN(3)*r.IntN(3) {
				w.Step(r)
			}
			if step == 180 {
				w.Empty()
			}
			steps++
			in := w.Input()
			fresh := compile.Compile(in)
			kept := compiler.Compile(in)
			if !reflect.DeepEqual(fresh, kept) {
				t.Fatalf("seed %d: the results differ (-fresh +kept):\n%s", seed, gocmp.Diff(render(fresh), render(kept)))
			}
			if steps%16 == 0 {
				earlier = append(earlier, made{fresh: fresh, kept: kept})
			}
			if r.IntN(16) == 0 {
				remembered++
				connections := make(map[string]string)
				for id, p := range in.Peers {
					connections[id] = p.Connection
				}
				w.Guards = guard.Remember(w.Guards, kept.InForce(), in.Set, in.Host, connections, in.Config.Guard, 500).Guards
			}
			want, err := plan.Make(fresh.Rulesets, model)
			if err != nil {
				t.Fatal(err)
			}
			change, err := tracker.Plan(kept.Rulesets)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []plan.Change{want, change} {
				for i := range c.Differences {
					if d := &c.Differences[i]; d.Kind == plan.RuleUnexpected {
						d.Text = "" // see meant
					}
				}
			}
			if !reflect.DeepEqual(want.Steps, change.Steps) || !reflect.DeepEqual(want.Differences, change.Differences) ||
				!reflect.DeepEqual(want.Leftovers, change.Leftovers) {
				t.Fatalf("seed %d: the changes differ (-fresh +kept):\n%s", seed, gocmp.Diff(texts(want), texts(change)))
			}
			if change.Empty() {
				unchanged++
			}
			run := change.Steps
			fails := len(run) > 0 && r.IntN(16) == 0
			if fails {
				run = run[:r.IntN(len(run))]
			}
			for _, s := range run {
				if err := kernels[s.Family].Restore(s.Text, s.Counters); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			if fails { // then a daemon reads the live rules
				failed++
				read()
				continue
			}
			if err := tracker.Applied(change); err != nil {
				t.Fatal(err)
			}
			model = tracker.Stands()
			if steps%16 == 0 {
				for family, k := range kernels {
					if diff := gocmp.Diff(meant(parse(t, k)), meant(model[family])); diff != "" {
						t.Fatalf("seed %d: another thing stands than the tracker knows (-kernel +tracker):\n%s", seed, diff)
					}
				}
			}
			if r.IntN(8) == 0 { // as after an audit
				read()
			}
			for _, rs := range fresh.Rulesets {
				if steps%8 != 0 {
					break // to read a save costs more than all else here
				}
				if diff := fake.Differs(rs, parse(t, kernels[rs.Family])); diff != "" {
					t.Fatalf("seed %d: %s", seed, diff)
				}
			}
		}
		for _, m := range earlier {
			if !reflect.DeepEqual(m.fresh, m.kept) {
				t.Fatalf("seed %d: a result was written to afterwards (-fresh +kept):\n%s", seed, gocmp.Diff(render(m.fresh), render(m.kept)))
			}
		}
		for what, n := range w.Did {
			did[what] += n
		}
	}
	t.Logf("%d compilations, of which %d changed nothing; %v", steps, unchanged, did)
	for _, what := range []string{"up", "down", "rekey", "selectors", "states", "reqid", "forget", "host", "config"} {
		if did[what] < 3 {
			t.Errorf("%s happened %d times only", what, did[what])
		}
	}
	if failed < 5 || remembered < 5 {
		t.Errorf("%d commits failed and %d times it was remembered, too few", failed, remembered)
	}
	if unchanged < steps/20 {
		t.Errorf("only %d of %d compilations changed nothing: rekeys should not", unchanged, steps)
	}
}

func render(r compile.Result) []string {
	var lines []string
	for _, rs := range r.Rulesets {
		for _, c := range rs.Chains {
			for _, rule := range c.Rules.All() {
				lines = append(lines, rs.Family.String()+" "+string(c.Table)+" "+c.Name+" "+string(rules.AppendLine(nil, rs.Family, c.Table, c.Name, rule)))
			}
		}
	}
	return lines
}

// meant lists the chains with rules by name, without the words of our own rules. A
// tracker holds rules as they were sent, and knows a built-in chain that no dump had only
// by its jump; iptables-save prints both its own way.
func meant(s live.Tables) []string {
	var lines []string
	for _, t := range s.Tables {
		for _, c := range slices.SortedFunc(slices.Values(t.Chains), byName) {
			if len(c.Rules) == 0 && c.Policy == "ACCEPT" {
				continue
			}
			lines = append(lines, fmt.Sprintf("%s :%s %s %d %d", t.Name, c.Name, c.Policy, c.Packets, c.Bytes))
			for _, r := range c.Rules {
				if c.Ours() || r.ID != "" {
					r.Raw = ""
				}
				lines = append(lines, fmt.Sprintf("%s %s %+v", t.Name, c.Name, r))
			}
		}
	}
	return lines
}

func byName(a, b live.Chain) int { return strings.Compare(a.Name, b.Name) }
