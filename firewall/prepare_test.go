package firewall_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// TestPrepare: a planner that was prepared plans what any other does, whatever
// stands, and does not hide what is wrong.
func TestPrepare(t *testing.T) {
	former, want := []firewall.Ruleset{big(200)}, []firewall.Ruleset{big(230)}
	k := &fake.Kernel{}
	stands := func() map[firewall.Family]firewall.Save {
		save, err := firewall.ParseSave(k.Save())
		if err != nil {
			t.Fatal(err)
		}
		return map[firewall.Family]firewall.Save{xfrm.IPv4: save}
	}
	apply := func(change firewall.Change) {
		for _, s := range change.Steps {
			if err := k.Restore(s.Text, s.Counters); err != nil {
				t.Fatal(err)
			}
		}
	}
	for round, rulesets := range [][]firewall.Ruleset{former, want, want, former} {
		have := stands()
		plain, err := firewall.Plan(rulesets, have)
		if err != nil {
			t.Fatal(err)
		}
		var p firewall.Planner
		p.Prepare(former) // of which nothing may be left
		p.Prepare(rulesets)
		got, err := p.Plan(rulesets, have)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plain.Steps, got.Steps); diff != "" || !cmp.Equal(plain.Differences, got.Differences) {
			t.Errorf("round %d: a prepared planner plans something else (-want +got):\n%s", round, diff)
		}
		apply(got)
	}
	bad := big(30)
	bad.Chains[0].Rules = firewall.RulesOf(jump("XFRMFW-NOWHERE"))
	_, plain := firewall.Plan([]firewall.Ruleset{bad}, stands())
	var p firewall.Planner
	p.Prepare([]firewall.Ruleset{bad})
	if _, err := p.Plan([]firewall.Ruleset{bad}, stands()); plain == nil || err == nil || err.Error() != plain.Error() {
		t.Errorf("rules that lead nowhere: %v, want %v", err, plain)
	}
}
