package prove

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// putBack is a fault that xfrmfw once had, and how a test puts it back.
type putBack struct {
	// fault begins with the letter of its kind.
	fault string
	// world is the gateway, by the name of a packet of fake.Faults, and alter changes it.
	world string
	alter func(*firewall.Input)
	// how says in words what is put back: facts are then decided wrongly, or the rules of
	// iptables and the table of nftables are laid out wrongly.
	how   string
	facts func(*firewall.Facts)
	rules func(*rules.Ruleset)
	table func(*sets.Table)
	// inRules and inTable are the properties that fail where the one layout alone has the
	// fault, and inFacts those where the facts have it, and Judge and both layouts with them.
	// The last are those that hold whatever was decided.
	inRules, inTable, inFacts string
	// why is the reason why the proof does not find the fault, or does not if the facts have it.
	why string
}

// The proof finds by itself, without a comparison with Judge, the faults that the table says:
// those of one layout, and those that facts, Judge and layouts share. The log has all of
// them, each with the first property that fails and a packet.
func TestFaultsAreFound(t *testing.T) {
	inputs := make(map[string]firewall.Input)
	for _, f := range fake.Faults() {
		inputs[f.Name] = f.Input
	}
	var byLayout, byFacts, packets int
	for _, f := range putBacks() {
		if f.world == "" { // no packet tells it
			t.Logf("%s | - | not found: %s", f.fault, f.why)
			continue
		}
		in, ok := inputs[f.world]
		if !ok {
			t.Errorf("%s: no fault is called %q", f.fault, f.world)
			continue
		}
		packets++
		if f.alter != nil {
			f.alter(&in)
		}
		found := f.ask(in)
		want := map[string]string{"rules": f.inRules, "table": f.inTable, "facts": f.inFacts}
		got := make(map[string]string)
		for where, list := range found {
			inOrder(list)
			got[where] = names(list)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: properties wanted -, broken +:\n%s", f.fault, diff)
		}
		line := fmt.Sprintf("%s | %s", f.fault, f.how)
		for _, where := range []string{"rules", "table", "facts"} {
			line += " | in " + where + " "
			if len(found[where]) == 0 {
				line += "-"
				continue
			}
			line += found[where][0].Property.Name + ": " + Describe(found[where][0].Packet)
		}
		if f.why != "" {
			line += " | " + f.why
		}
		t.Log(line)
		if f.inRules+f.inTable != "" {
			byLayout++
		}
		if f.inFacts != "" {
			byFacts++
		}
		if f.inFacts == "" && f.why == "" {
			t.Errorf("%s: no reason why it is not found in the facts", f.fault)
		}
	}
	t.Logf("of %d faults that packets tell, the proof finds %d where a layout has them, and %d where the facts have them", packets, byLayout, byFacts)
}

// inOrder sorts findings by their properties.
func inOrder(found []Finding) {
	properties := Properties()
	at := func(f Finding) int {
		return slices.IndexFunc(properties, func(p Property) bool { return p.Name == f.Property.Name })
	}
	slices.SortStableFunc(found, func(a, b Finding) int { return at(a) - at(b) })
}

// names are the properties of findings in their order.
func names(found []Finding) string {
	list := make([]string, len(found))
	for i := range found {
		list[i] = found[i].Property.Name
	}
	return strings.Join(slices.Compact(list), " ")
}

// ask returns what the proof finds of a fault in the rules of iptables, in the table of
// nftables, and in the facts, where both must find the same.
func (f *putBack) ask(in firewall.Input) map[string][]Finding {
	right := decide.Facts(in)
	wrong := decide.Facts(in)
	if f.facts != nil {
		f.facts(&wrong)
	}
	found := make(map[string][]Finding)
	for _, rs := range compile.Rulesets(wrong) {
		if rs.Family != xfrm.IPv4 { // which all worlds have
			continue
		}
		if f.rules != nil {
			rs.Chains = slices.Clone(rs.Chains)
			f.rules(&rs)
		}
		found["rules"] = append(found["rules"], Prove(evaluate.NewFirewall(rs, &right, Values(in), false), &right, in, nil, nil)...)
		found["facts"] = append(found["facts"], byKernel(Prove(evaluate.NewFirewall(rs, &wrong, Values(in), false), &wrong, in, nil, nil))...)
	}
	table := program.Table(&wrong, program.Options{})
	if f.table != nil {
		f.table(&table)
	}
	found["table"] = Prove(evaluate.NewTable(table, xfrm.IPv4, &right, Values(in), false), &right, in, nil, nil)
	found["facts"] = append(found["facts"], byKernel(Prove(evaluate.NewTable(table, xfrm.IPv4, &wrong, Values(in), false), &wrong, in, nil, nil))...)
	return found
}

// byKernel are the findings of the properties that ask no facts.
func byKernel(found []Finding) []Finding {
	return slices.DeleteFunc(found, func(f Finding) bool { return !strings.HasPrefix(f.Property.Name, "kernel-") })
}

// without takes out of a chain of iptables the rules that lead to another.
func without(chain, to string) func(*rules.Ruleset) {
	return func(rs *rules.Ruleset) {
		*rs = fake.Without(*rs, func(c rules.Chain, _ int, r rules.Rule) bool { return c.Name == chain && r.Target.Chain == to })
	}
}

// lacking takes out of a chain of nftables the rules with a comment.
func lacking(comment string, chains ...string) func(*sets.Table) {
	return func(t *sets.Table) {
		for i := range t.Chains {
			if c := &t.Chains[i]; slices.Contains(chains, c.Name) {
				c.Rules = slices.DeleteFunc(slices.Clone(c.Rules), func(r sets.Rule) bool { return r.Comment == comment })
			}
		}
	}
}
