package compile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// judged is a gateway with its rules, and packets with the verdicts that Judge gives.
type judged struct {
	name     string
	facts    firewall.Facts
	sets     map[xfrm.Family]rules.Ruleset
	engines  map[xfrm.Family]trace.Evaluator
	passages []firewall.Passage
	want     []firewall.Verdict
}

func newJudged(name string, in firewall.Input) *judged {
	j := &judged{name: name, facts: decide.Facts(in), sets: make(map[xfrm.Family]rules.Ruleset), engines: make(map[xfrm.Family]trace.Evaluator)}
	for _, rs := range Rulesets(j.facts) {
		j.sets[rs.Family], j.engines[rs.Family] = rs, trace.NewEvaluator(rs)
	}
	return j
}

// judge adds a packet of a family that has rules.
func (j *judged) judge(p firewall.Passage, want firewall.Verdict) {
	if _, ok := j.sets[xfrm.FamilyOf(p.Received.Src)]; ok {
		j.passages, j.want = append(j.passages, p), append(j.want, want)
	}
}

// judgedGateways calls f with the gateways of the faults, with random ones, and with some
// of so many tunnels that trees branch.
func judgedGateways(gateways, crowds uint64, f func(*judged)) {
	const packets = 400
	random := func(name string, r *rand.Rand, in firewall.Input, packets int) {
		j := newJudged(name, in)
		maker := fake.NewPassages(r, in, &j.facts)
		judge := func(p firewall.Passage) { j.judge(p, firewall.Judge(&j.facts, p)) }
		for range packets {
			judge(maker.Next())
		}
		for _, c := range j.facts.Claims {
			judge(maker.OutOf(c))
			judge(maker.Crossed(c))
		}
		for _, o := range j.facts.Overlays {
			if len(o.Sources) > 0 {
				judge(maker.OutOfDevice(o))
			}
		}
		f(j)
	}
	for _, fault := range fake.Faults() {
		j := newJudged(fault.Name, fault.Input)
		j.judge(fault.Passage, fault.Want)
		f(j)
	}
	for seed := range gateways {
		r := rand.New(rand.NewPCG(seed, 4242))
		random(fmt.Sprintf("seed %d", seed), r, fake.Gateway(r), packets)
	}
	for seed := range crowds {
		r := rand.New(rand.NewPCG(seed, 42))
		random(fmt.Sprintf("crowd %d", seed), r, fake.Crowd(r), 10*packets)
	}
}

// Judge and the compiled rules give the same verdict and the same case for random
// packets of random gateways: in both families, on all three ways, with NAT, several
// SAs on the path, and flows of every state.
func TestRulesAreJudge(t *testing.T) {
	verdicts := make(map[string]int)
	differences, known := make(map[string]int), make(map[string]int)
	judgedGateways(120, 1, func(j *judged) {
		for i, p := range j.passages {
			want := j.want[i]
			got, steps := fake.Walk(j.engines[xfrm.FamilyOf(p.Received.Src)], &j.facts, p)
			verdicts[want.Action.String()+" "+want.Case.String()]++
			if got == want {
				continue
			}
			if reason := explained(&j.facts, p, got, want); reason != "" {
				known[reason]++
				continue
			}
			key := fmt.Sprintf("rules %v %v, Judge %v %v", got.Action, got.Case, want.Action, want.Case)
			if differences[key]++; differences[key] == 1 {
				var met []string
				for _, s := range steps {
					met = append(met, s.String())
				}
				t.Errorf("%s: %s: %+v\n%s", j.name, key, p, strings.Join(met, "\n"))
			}
		}
	})
	for _, key := range slices.Sorted(maps.Keys(verdicts)) {
		t.Logf("%7d %s", verdicts[key], key)
	}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		t.Logf("%7d differ, because %s", known[key], key)
	}
	for key, n := range differences {
		t.Logf("%7d times: %s", n, key)
	}
	for _, rare := range []string{"drop 6", "drop 6b", "drop 7", "drop 7b", "drop 8", "reject 8", "drop 8b", "drop 8c", "accept 1", "accept 1b", "accept 2", "accept 3", "drop 3", "accept 4"} {
		if verdicts[rare] < 5 {
			t.Errorf("only %d packets were judged %q", verdicts[rare], rare)
		}
	}
}

// A rule of another program that clears our bits behind PREROUTING cuts no tunnel off:
// FORWARD and INPUT judge a packet out of an SA again, by the policy match. It lets nothing
// in. Left to the rest of the firewall are packets that DNAT rewrote and ICMP errors by
// other routers, and with verified: return all, because the mark alone counts there.
func TestWipedMarks(t *testing.T) {
	verdicts := make(map[string]int)
	drops := func(v firewall.Verdict) bool { return v.Action == firewall.Discard || v.Action == firewall.Refuse }
	judgedGateways(30, 1, func(j *judged) {
		for i, p := range j.passages {
			if len(p.Path) == 0 || p.Way == firewall.FromHost {
				continue
			}
			want := j.want[i]
			accepted := want.Action == firewall.Admit && (want.Case == firewall.Case1 || want.Case == firewall.Case3) && p.Received == p.AfterDNAT && !j.facts.MarkOnly
			if !accepted && !drops(want) {
				continue
			}
			verdicts[want.Action.String()+" "+want.Case.String()]++
			got, steps := fake.WalkWiped(j.engines[xfrm.FamilyOf(p.Received.Src)], &j.facts, p)
			if accepted && got.Action != firewall.Admit || drops(want) && !drops(got) {
				t.Errorf("%s: rules %v %v, Judge %v %v: %+v\n%v", j.name, got.Action, got.Case, want.Action, want.Case, p, steps)
			}
		}
	})
	t.Log(verdicts)
	for _, key := range []string{"accept 1", "accept 3", "drop 7", "drop 7b"} {
		if verdicts[key] < 5 {
			t.Errorf("only %d packets were judged %q", verdicts[key], key)
		}
	}
}

// explained returns the reason for a difference that iptables can't avoid.
func explained(f *firewall.Facts, p firewall.Passage, got, want firewall.Verdict) string {
	policyOnly := slices.ContainsFunc(f.Claims, func(c firewall.Claim) bool {
		return c.PolicyOnly && slices.ContainsFunc(p.Path, func(sa xfrm.Transform) bool { return sa.Reqid == c.In.Reqid })
	})
	flow := &p.Flow
	switch {
	case flow.Related && !slices.Contains([]netip.Addr{flow.OrigSrc, flow.OrigDst, flow.ReplySrc, flow.ReplyDst}, p.Received.Dst):
		return "conntrack drops errors that are for no end of their flow"
	case policyOnly && want.Case == firewall.Case2:
		return "packets that must carry none of our bits are judged anew in filter, by their addresses after DNAT"
	case got.Action == want.Action && got.Case == firewall.Case8 && want.Case == firewall.Case8d:
		return "a rule of case 8 and one of case 8d that are alike became one"
	}
	return ""
}

// TestMutants takes each kind of rule out of gateways, and counts the kinds whose absence
// gives a packet another verdict. The campaign of scripts/soak takes many gateways, and
// has these kinds in the file XFRMFW_MUTANTS, sorted.
func TestMutants(t *testing.T) {
	file := os.Getenv("XFRMFW_MUTANTS")
	gateways, crowds, fewest := uint64(4), uint64(0), 100
	if file != "" {
		gateways, crowds, fewest = 120, 3, 200
	}
	all, missed := make(map[string]bool), make(map[string]bool)
	judgedGateways(gateways, crowds, func(j *judged) {
		kinds := make(map[xfrm.Family]map[rules.ChainKey][]string)
		for family, rs := range j.sets {
			kinds[family] = fake.Kinds(rs)
			for _, list := range kinds[family] {
				for _, k := range list {
					all[k] = true
				}
			}
		}
		mutants := make(map[string]trace.Evaluator)
		for i, p := range j.passages {
			family := xfrm.FamilyOf(p.Received.Src)
			got, steps := fake.Walk(j.engines[family], &j.facts, p)
			if got != j.want[i] {
				continue
			}
			for _, s := range steps {
				k := kinds[family][rules.ChainKey{Table: s.Table, Name: s.Chain}][s.Index]
				if missed[k] {
					continue
				}
				at := fmt.Sprint(family, k)
				if _, ok := mutants[at]; !ok {
					mutants[at] = trace.NewEvaluator(fake.Without(j.sets[family], func(c rules.Chain, i int, _ rules.Rule) bool { return kinds[family][keyOf(c)][i] == k }))
				}
				other, _ := fake.Walk(mutants[at], &j.facts, p)
				if other != got {
					missed[k] = true
				}
			}
		}
	})
	t.Logf("of %d kinds of rules, %d are missed when they are taken out", len(all), len(missed))
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if !missed[k] {
			t.Logf("not missed: %s", k)
		}
	}
	if len(missed) < fewest {
		t.Errorf("only %d kinds are missed", len(missed))
	}
	if file == "" {
		return
	}
	if err := os.WriteFile(file, []byte(strings.Join(slices.Sorted(maps.Keys(missed)), "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func keyOf(c rules.Chain) rules.ChainKey { return rules.ChainKey{Table: c.Table, Name: c.Name} }
