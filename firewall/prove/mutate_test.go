package prove

import (
	"cmp"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// absence is the first property that fails without a kind of rule, with a packet that
// breaks it. The property is empty where equality with Judge fails alone.
type absence struct{ property, packet string }

// Without rules of a kind a property fails, with a packet that breaks it. The campaign of
// scripts/soak takes many gateways, and has the table in the file XFRMFW_MUTANTS: kind,
// properties and packet, with tabs between. XFRMFW_KINDS, a regular expression, restricts it to
// some kinds. Rules that only write to the log or change the segment size have no part in it,
// because no verdict misses them.
func TestMutants(t *testing.T) {
	file := os.Getenv("XFRMFW_MUTANTS")
	enough := 90
	if file != "" {
		enough = math.MaxInt
	}
	some := regexp.MustCompile(os.Getenv("XFRMFW_KINDS"))
	kinds, missed := make(map[string]bool), make(map[string]absence)
	mutants := 0
	for g := range gateways(t, 1, 1) {
		for _, family := range g.families {
			rs, w := g.sets[family], g.firewall(family)
			of := fake.Kinds(rs)
			for _, kind := range slices.Sorted(maps.Keys(deciding(rs, of))) {
				if !some.MatchString(kind) {
					continue
				}
				kinds[kind] = true
				if missed[kind].property != "" {
					continue
				}
				mutants++
				without := fake.Without(rs, func(c rules.Chain, i int, _ rules.Rule) bool {
					return of[rules.ChainKey{Table: c.Table, Name: c.Name}][i] == kind
				})
				if a := broken(w.Instead(evaluate.Layout{Rules: &without}), &g, missed[kind].packet == ""); a.packet != "" {
					missed[kind] = a
				}
			}
		}
		if len(missed) >= enough {
			break
		}
	}
	by := make(map[string]int)
	var table []string
	for kind := range kinds {
		a, ok := missed[kind]
		word := cmp.Or(a.property, "equality")
		if !ok {
			word = "-"
		}
		by[word]++
		table = append(table, strings.Join([]string{kind, word, a.packet}, "\t"))
	}
	slices.Sort(table)
	t.Logf("of %d kinds of rules, taken out %d times, %d are missed: %v", len(kinds), mutants, len(missed), by)
	if len(missed) < 90 && some.String() == "" {
		t.Error("the test stopped too early")
	}
	if file != "" {
		if err := os.WriteFile(file, []byte(strings.Join(table, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// deciding are the kinds of the rules on which a verdict may depend.
func deciding(rs rules.Ruleset, kinds map[rules.ChainKey][]string) map[string]bool {
	all := make(map[string]bool)
	for _, c := range rs.Chains {
		list := kinds[rules.ChainKey{Table: c.Table, Name: c.Name}]
		for i, r := range c.Rules.All() {
			if v := r.Target.Verb; v != rules.Log && v != rules.NFLog && v != rules.ClampMSS {
				all[list[i]] = true
			}
		}
	}
	return all
}

// broken is the first property that fails. Where all hold it may ask for equality with
// Judge.
func broken(w *evaluate.Firewall, g *gateway, equality bool) absence {
	for found := range findings(w, &g.facts, g.in, nil, nil, every...) {
		return absence{found.Property.Name, Describe(found.Packet)}
	}
	if equality {
		for _, way := range ways {
			for _, d := range differences(w, &g.facts, way) {
				return absence{packet: d}
			}
		}
	}
	return absence{}
}
