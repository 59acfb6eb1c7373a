package firewall_test

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Whoever follows his own changes plans what one plans who reads the live rules
// each time, text for text, however often the wanted rules change.
func TestAfterIsWhatStands(t *testing.T) {
	followed := 0
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		k := &fake.Kernel{}
		for range rnd.IntN(6) {
			_ = k.Restore(fake.Mischief(rnd, parse(t, k)), false)
		}
		model := saves(t, k)
		for range 12 {
			rs := []firewall.Ruleset{fake.Ruleset(rnd, xfrm.IPv4)}
			if rnd.IntN(8) == 0 {
				rs = nil
			}
			change, err := firewall.Plan(rs, model)
			if err != nil {
				t.Fatal(err)
			}
			read, err := firewall.Plan(rs, saves(t, k))
			if err != nil {
				t.Fatal(err)
			}
			// Jumps are taken out by their text, which is the program's or ours.
			if len(texts(read)) != len(texts(change)) || len(read.Differences) != len(change.Differences) {
				t.Fatalf("seed %d (-read +followed):\n%s", seed, cmp.Diff(texts(read), texts(change)))
			}
			apply(t, k, change)
			if model, err = change.After(model); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if again, err := firewall.Plan(rs, model); err != nil || !again.Empty() {
				t.Fatalf("seed %d: by the model, something is left to do: %v %v", seed, err, texts(again))
			}
			if again, err := firewall.Plan(rs, saves(t, k)); err != nil || !again.Empty() {
				t.Fatalf("seed %d: in the kernel, something is left to do: %v %v", seed, err, texts(again))
			}
			if !change.Empty() {
				followed++
			}
		}
		if diff := cmp.Diff(fake.Foreign(parse(t, k)), fake.Foreign(model[xfrm.IPv4])); diff != "" {
			t.Fatalf("seed %d: foreign rules (-kernel +model):\n%s", seed, diff)
		}
	}
	if followed < 1000 {
		t.Errorf("only %d changes were followed", followed)
	}
}

// A model must not reach back into what it was made from: that is the way back.
func TestAfterLeavesTheFormer(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		k := &fake.Kernel{}
		model := saves(t, k)
		for range 5 {
			change, err := firewall.Plan([]firewall.Ruleset{fake.Ruleset(rnd, xfrm.IPv4)}, model)
			if err != nil {
				t.Fatal(err)
			}
			before := string(model[xfrm.IPv4].Append(nil))
			next, err := change.After(model)
			if err != nil {
				t.Fatal(err)
			}
			if now := string(model[xfrm.IPv4].Append(nil)); now != before {
				t.Fatalf("seed %d (-before +after):\n%s", seed, cmp.Diff(before, now))
			}
			model = next
		}
	}
}
