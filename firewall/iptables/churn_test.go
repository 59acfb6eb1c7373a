package iptables

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
)

// TestChurnOfRealRules applies one change of a world after the other as a daemon does,
// from the rules it knows to stand and without reading them. The rules in the kernel then
// equal those compiled afresh, and a plan from a reading finds nothing to do.
// XFRMFW_CHURN is for the pure test of that name; a fifth of it is the number of worlds
// here.
func TestChurnOfRealRules(t *testing.T) {
	asked, err := strconv.ParseUint(cmp.Or(os.Getenv("XFRMFW_CHURN"), "1"), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	rounds := 30
	if asked == 1 {
		rounds = 5
	}
	eachVariant(t, func(t *testing.T, p *Programs) {
		turns, commits, unchanged, outgrown := 0, 0, 0, 0
		for seed := range max(1, asked/5) {
			flush(t, p)
			r := rand.New(rand.NewPCG(seed, 78))
			w := fake.NewWorld()
			var compiler compile.Compiler
			var tracker plan.Tracker
			stands, err := p.SaveAll(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			tracker.Observed(stands)
			for range rounds {
				for range 1 + r.IntN(4) {
					w.Step(r)
				}
				turns++
				in := w.Input()
				change, err := tracker.Plan(compiler.Compile(in).Rulesets)
				if err != nil {
					t.Fatal(err)
				}
				if err := p.Apply(t.Context(), change); errors.Is(err, ErrTooLong) {
					// Not as root of the machine, for whom there is no such bound.
					outgrown++
					break
				} else if err != nil {
					t.Fatal(err)
				}
				commits += len(change.Steps)
				if change.Empty() {
					unchanged++
				}
				if err := tracker.Applied(change); err != nil {
					t.Fatal(err)
				}
				live, err := p.SaveAll(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				fresh := compile.Compile(in).Rulesets
				for _, rs := range fresh {
					if diff := fake.Differs(rs, live[rs.Family]); diff != "" {
						t.Fatalf("seed %d: %s", seed, diff)
					}
				}
				if again, err := plan.Make(fresh, live); err != nil || !again.Empty() {
					t.Fatalf("seed %d: from what was read there is something to do: %v, %v", seed, again.Differences, err)
				}
			}
		}
		t.Logf("iptables-%s: %d changes in %d worlds, %d of which changed nothing, in %d commits; %d worlds ended as a commit of theirs was too large for this user",
			p.Variant(), turns, max(1, asked/5), unchanged, commits, outgrown)
		if turns-outgrown < rounds/2 {
			t.Errorf("only %d changes were made", turns-outgrown)
		}
	})
}
