package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// TestRecount: rules that stay in a chain that is rewritten carry on their counts of now,
// rules that are new begin at zero, and the rules that follow from the step stand after
// it.
func TestRecount(t *testing.T) {
	k := &fake.Kernel{}
	var tracker plan.Tracker
	read := func() map[xfrm.Family]live.Tables {
		save, err := live.Parse(k.Save())
		if err != nil {
			t.Fatal(err)
		}
		return map[xfrm.Family]live.Tables{xfrm.IPv4: save}
	}
	planned := func(n int) plan.Change {
		change, err := tracker.Plan([]rules.Ruleset{big(n)})
		if err != nil {
			t.Fatal(err)
		}
		return change
	}
	run := func(change plan.Change) {
		for _, s := range change.Steps {
			if err := k.Restore(s.Text, s.Counters); err != nil {
				t.Fatal(err)
			}
		}
	}
	tracker.Observed(read())
	first := planned(40)
	run(first)
	if err := tracker.Applied(first); err != nil {
		t.Fatal(err)
	}
	// The rules that stand are known with counters of zero; then packets come.
	change := planned(41)
	if len(change.Steps) != 1 || change.Steps[0].Counters {
		t.Fatalf("%d steps, with counters: %v", len(change.Steps), change.Steps[0].Counters)
	}
	chains := change.Steps[0].Rewrites()
	if !slices.Equal(chains, []string{"XFRMFW-PRE-20"}) {
		t.Fatalf("rewritten are %v", chains)
	}
	now := make(map[string]plan.Counter)
	leaf, _ := read()[xfrm.IPv4].Table(rules.Mangle).Chain("XFRMFW-PRE-20")
	for i, r := range leaf.Rules {
		now[r.ID] = plan.Counter{Packets: uint64(i + 1), Bytes: 100}
	}
	change.Steps[0] = change.Steps[0].Recount(now)
	run(change)
	leaf, _ = read()[xfrm.IPv4].Table(rules.Mangle).Chain("XFRMFW-PRE-20")
	if len(leaf.Rules) != 9 {
		t.Fatalf("%d rules, want 9", len(leaf.Rules))
	}
	for i, r := range leaf.Rules {
		want := plan.Counter{Packets: uint64(i + 1), Bytes: 100}
		if i == 8 {
			want = plan.Counter{}
		}
		if got := (plan.Counter{Packets: r.Packets, Bytes: r.Bytes}); got != want {
			t.Errorf("rule %d has counted %v, want %v", i, got, want)
		}
	}
	if err := tracker.Applied(change); err != nil {
		t.Fatal(err)
	}
	known, _ := tracker.Stands()[xfrm.IPv4].Table(rules.Mangle).Chain("XFRMFW-PRE-20")
	for i, r := range known.Rules {
		if r.ID != leaf.Rules[i].ID || r.Packets != leaf.Rules[i].Packets {
			t.Errorf("rule %d is taken to be %s with %d packets, and is %s with %d", i, r.ID, r.Packets, leaf.Rules[i].ID, leaf.Rules[i].Packets)
		}
	}
	// The counters of the step stay for rules that nobody knows more of.
	again := planned(42)
	if text := again.Steps[0].Recount(map[string]plan.Counter{"of nobody...": {Packets: 1}}).Text; text != again.Steps[0].Text || !strings.Contains(text, "[8:100]") {
		t.Errorf("counters of the plan are lost:\n%s", text)
	}
	// No counter is put before anything but a rule that is added.
	odd := plan.Step{Family: xfrm.IPv4, Table: rules.Mangle, Text: "*mangle\n:XFRMFW-A - [0:0]\n-A XFRMFW-A -j RETURN -m comment --comment xfrmfw:abcdefghijkl/x\n-D FORWARD -m comment --comment xfrmfw:abcdefghijkl/x\n[3:4] -I INPUT 1 -j XFRMFW-A\n-X XFRMFW-B\nCOMMIT\n"}
	want := strings.Replace(odd.Text, "-A XFRMFW-A", "[5:6] -A XFRMFW-A", 1)
	if got := odd.Recount(map[string]plan.Counter{"abcdefghijkl": {Packets: 5, Bytes: 6}}); got.Text != want || !got.Counters {
		t.Errorf("got\n%s\nwant\n%s", got.Text, want)
	}
	if got := odd.Recount(map[string]plan.Counter{"abcdefghijkl": {}}); got != odd {
		t.Errorf("counters of zero were written:\n%s", got.Text)
	}
}
