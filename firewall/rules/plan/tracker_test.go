package plan_test

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// A tracker that follows its own changes plans the changes of one that reads the live
// rules each time, however often the wanted rules change.
func TestTrackerKnowsWhatStands(t *testing.T) {
	followed := 0
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		k := &fake.Kernel{}
		for range rnd.IntN(6) {
			_ = k.Restore(fake.Mischief(rnd, parse(t, k)), false)
		}
		var tracker plan.Tracker
		tracker.Observed(saves(t, k))
		for range 12 {
			rs := []rules.Ruleset{fake.Ruleset(rnd, xfrm.IPv4)}
			if rnd.IntN(8) == 0 {
				rs = nil
			}
			change, err := tracker.Plan(rs)
			if err != nil {
				t.Fatal(err)
			}
			read, err := plan.Make(rs, saves(t, k))
			if err != nil {
				t.Fatal(err)
			}
			// Jumps are taken out by their text, which is the program's or ours.
			if len(texts(read)) != len(texts(change)) || len(read.Differences) != len(change.Differences) {
				t.Fatalf("seed %d (-read +followed):\n%s", seed, cmp.Diff(texts(read), texts(change)))
			}
			apply(t, k, change)
			if err = tracker.Applied(change); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if again, err := tracker.Plan(rs); err != nil || !again.Empty() {
				t.Fatalf("seed %d: by the tracker, something is left to do: %v %v", seed, err, texts(again))
			}
			if again, err := plan.Make(rs, saves(t, k)); err != nil || !again.Empty() {
				t.Fatalf("seed %d: in the kernel, something is left to do: %v %v", seed, err, texts(again))
			}
			if !change.Empty() {
				followed++
			}
		}
		if diff := cmp.Diff(fake.Foreign(parse(t, k)), fake.Foreign(tracker.Others()[xfrm.IPv4])); diff != "" {
			t.Fatalf("seed %d: foreign rules (-kernel +tracker):\n%s", seed, diff)
		}
	}
	if followed < 1000 {
		t.Errorf("only %d changes were followed", followed)
	}
}

// The way back is not reached by changes that are applied later.
func TestTrackerLeavesTheFormer(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		k := &fake.Kernel{}
		var tracker plan.Tracker
		tracker.Observed(saves(t, k))
		for range 5 {
			change, err := tracker.Plan([]rules.Ruleset{fake.Ruleset(rnd, xfrm.IPv4)})
			if err != nil {
				t.Fatal(err)
			}
			before := string(change.Former()[xfrm.IPv4].Append(nil))
			if err = tracker.Applied(change); err != nil {
				t.Fatal(err)
			}
			if now := string(change.Former()[xfrm.IPv4].Append(nil)); now != before {
				t.Fatalf("seed %d (-before +after):\n%s", seed, cmp.Diff(before, now))
			}
		}
	}
}

// TestTrackerForgets: without live rules nothing is planned and nothing followed.
func TestTrackerForgets(t *testing.T) {
	k := &fake.Kernel{}
	var tracker plan.Tracker
	want := []rules.Ruleset{big(20)}
	if _, err := tracker.Plan(want); err == nil || tracker.Known() || tracker.Others() != nil {
		t.Errorf("planned from unknown rules: %v", err)
	}
	tracker.Observed(saves(t, k))
	change, err := tracker.Plan(want)
	if err != nil || change.Empty() || change.Drift {
		t.Fatalf("%v, drift %v", err, change.Drift)
	}
	tracker.Forget()
	if err := tracker.Applied(change); err != nil || tracker.Known() {
		t.Errorf("followed from unknown rules: %v", err)
	}
	tracker.Observed(saves(t, k))
	if change, err = tracker.Plan(want); err != nil || change.Drift {
		t.Errorf("a plan that was not applied was taken for drift: %v", err)
	}
	apply(t, k, change)
	if err := tracker.Applied(change); err != nil {
		t.Fatal(err)
	}
	tracker.Observed(saves(t, &fake.Kernel{}))
	if change, err = tracker.Plan(want); err != nil || !change.Drift {
		t.Errorf("rules of another program were not told: %v", err)
	}
	tracker.Observed(saves(t, k))
	if change, err = tracker.Plan([]rules.Ruleset{big(21)}); err != nil || change.Drift || change.Empty() {
		t.Errorf("a change of our own was taken for drift: %v", err)
	}
}

// TestExpect: a tracker that expects rules plans the same as any other, whatever stands,
// and reports the same error.
func TestExpect(t *testing.T) {
	former, want := []rules.Ruleset{big(200)}, []rules.Ruleset{big(230)}
	k := &fake.Kernel{}
	for round, rulesets := range [][]rules.Ruleset{former, want, want, former} {
		plain, err := plan.Make(rulesets, saves(t, k))
		if err != nil {
			t.Fatal(err)
		}
		var tracker plan.Tracker
		tracker.Expect(former) // of which nothing may be left
		tracker.Expect(rulesets)
		tracker.Observed(saves(t, k))
		got, err := tracker.Plan(rulesets)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plain.Steps, got.Steps); diff != "" || !cmp.Equal(plain.Differences, got.Differences) {
			t.Errorf("round %d: a tracker that expects rules plans something else (-want +got):\n%s", round, diff)
		}
		apply(t, k, got)
	}
	bad := big(30)
	bad.Chains[0].Rules = rules.ListOf(rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: "XFRMFW-NOWHERE"}, Purpose: "x"})
	_, plain := plan.Make([]rules.Ruleset{bad}, saves(t, k))
	var tracker plan.Tracker
	tracker.Expect([]rules.Ruleset{bad})
	tracker.Observed(saves(t, k))
	if _, err := tracker.Plan([]rules.Ruleset{bad}); plain == nil || err == nil || err.Error() != plain.Error() {
		t.Errorf("rules that lead nowhere: %v, want %v", err, plain)
	}
	noTarget := big(30)
	noTarget.Chains[0].Rules = rules.ListOf(rules.Rule{Purpose: "x", Target: rules.Target{Verb: 99}})
	var second plan.Tracker
	second.Expect([]rules.Ruleset{noTarget})
	second.Observed(saves(t, k))
	if _, err := second.Plan([]rules.Ruleset{noTarget}); err == nil {
		t.Error("a rule that is not valid was taken for valid, because it was expected")
	}
}
