package prove

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// absence is the first gateway on which the proof misses a kind of rule.
type absence struct {
	gateway string
	// properties fail without the rules, or are equality with Judge alone.
	properties []string
	packet     string
}

// Without rules of a kind a property fails, with a packet that breaks it. The campaign of
// scripts/soak takes many gateways, and has the table in the file XFRMFW_MUTANTS: kind,
// properties and packet, with tabs between.
func TestMutants(t *testing.T) {
	file := os.Getenv("XFRMFW_MUTANTS")
	kinds, missed := make(map[string]bool), make(map[string]absence)
	mutants := 0
	for name, in := range inputs(t, 2) {
		facts := firewall.Decide(in)
		for _, rs := range compile.Rulesets(facts) {
			w := evaluate.NewFirewall(rs, &facts, linksOf(in.Host), false)
			of := fake.Kinds(rs)
			for _, kind := range slices.Sorted(maps.Keys(distinct(of))) {
				kinds[kind] = true
				if missed[kind].properties != nil {
					continue
				}
				mutants++
				without := fake.Without(rs, func(c rules.Chain, i int, _ rules.Rule) bool {
					return of[rules.ChainKey{Table: c.Table, Name: c.Name}][i] == kind
				})
				if a, ok := broken(w.Instead(evaluate.Layout{Rules: &without}), &facts); ok {
					a.gateway = name
					missed[kind] = a
				}
			}
			if file == "" && rs.Family == xfrm.IPv4 && len(missed) > 150 {
				break
			}
		}
	}
	by := make(map[string]int)
	var table []string
	for kind := range kinds {
		a, ok := missed[kind]
		if !ok {
			table = append(table, kind+"\t-\t-")
			continue
		}
		by[a.properties[0]]++
		table = append(table, strings.Join([]string{kind, strings.Join(a.properties, " "), a.packet}, "\t"))
	}
	slices.Sort(table)
	t.Logf("of %d kinds of rules, taken out %d times, %d are missed: %v", len(kinds), mutants, len(missed), by)
	if file != "" {
		if err := os.WriteFile(file, []byte(strings.Join(table, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func distinct(kinds map[rules.ChainKey][]string) map[string]bool {
	all := make(map[string]bool)
	for _, list := range kinds {
		for _, k := range list {
			all[k] = true
		}
	}
	return all
}

// broken are the properties that fail, or equality with Judge where all hold.
func broken(w *evaluate.Firewall, f *firewall.Facts) (absence, bool) {
	var a absence
	for _, found := range Prove(w, f, nil) {
		if a.packet == "" {
			a.packet = Describe(found.Packet)
		}
		if !slices.Contains(a.properties, found.Property.Name) {
			a.properties = append(a.properties, found.Property.Name)
		}
	}
	if len(a.properties) > 0 {
		return a, true
	}
	for _, way := range ways {
		for _, d := range differences(w, f, way) {
			return absence{properties: []string{"equality"}, packet: d}, true
		}
	}
	return a, false
}

// inputs are the gateways of the packets that were once judged wrongly, each once, and
// random ones: few, or as many as a campaign asks for.
func inputs(t *testing.T, few uint64) func(yield func(string, firewall.Input) bool) {
	return func(yield func(string, firewall.Input) bool) {
		asked := make(map[string]bool)
		for _, fault := range faults() {
			if key := fmt.Sprint(fault.Input); !asked[key] {
				asked[key] = true
				if !yield(fault.Name, fault.Input) {
					return
				}
			}
		}
		for seed := range worlds(t, few) {
			if !yield(fmt.Sprintf("seed %d", seed), randomGateway(seed).in) {
				return
			}
		}
	}
}
