package plan_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// big is a tree of chains with n rules in its leaves, sixteen in each.
func big(n int) rules.Ruleset {
	rs := rules.Ruleset{
		Family: xfrm.IPv4,
		Hooks:  []rules.Hook{{Table: rules.Mangle, From: "PREROUTING", To: "XFRMFW-PRE"}},
	}
	var root []rules.Rule
	for i := 0; i < n; i += 16 {
		leaf := rules.Chain{Table: rules.Mangle, Name: fmt.Sprintf("XFRMFW-PRE-%x", i)}
		var list []rules.Rule
		for j := i; j < min(i+16, n); j++ {
			list = append(list, rules.Rule{
				Src: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(j >> 16), byte(j >> 8), byte(j)}), 32), Dst: netip.MustParsePrefix("10.200.0.0/16"),
				Mark:    rules.MarkMatch{Value: 0x10000000, Mask: 0x10000000},
				Policy:  rules.PolicyMatch{Dir: rules.PolicyIn, Proto: xfrm.ESP, HasReqid: true, Reqid: uint32(j)},
				Target:  rules.Target{Verb: rules.SetMark, Value: 0x20000000, Mask: 0x20000000},
				Purpose: "verified", Tunnel: fmt.Sprintf("t%08x", j),
			})
		}
		r := rules.Rule{Target: rules.Target{Verb: rules.Jump, Chain: leaf.Name}, Purpose: "x"}
		r.Src = netip.PrefixFrom(list[0].Src.Addr(), 28)
		root = append(root, r)
		leaf.Rules = rules.ListOf(list...)
		rs.Chains = append(rs.Chains, leaf)
	}
	rs.Chains = append(rs.Chains, rules.Chain{Table: rules.Mangle, Name: "XFRMFW-PRE", Rules: rules.ListOf(root...)})
	return rs
}

func sizes(b *testing.B, run func(b *testing.B, rs rules.Ruleset, text []byte)) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			rs := big(n)
			b.ReportAllocs()
			run(b, rs, printedSave(b, rs))
		})
	}
}

// printedSave is the output of iptables-save for a rule set that stands.
func printedSave(b *testing.B, rs rules.Ruleset) []byte {
	b.Helper()
	k := &fake.Kernel{}
	change, err := plan.Make([]rules.Ruleset{rs}, map[xfrm.Family]live.Tables{rs.Family: {}})
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range change.Steps {
		if err := k.Restore(s.Text, s.Counters); err != nil {
			b.Fatal(err)
		}
	}
	return k.Save()
}

func BenchmarkParseSave(b *testing.B) {
	sizes(b, func(b *testing.B, _ rules.Ruleset, text []byte) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if _, err := live.Parse(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPlanUnchanged(b *testing.B) {
	sizes(b, func(b *testing.B, rs rules.Ruleset, text []byte) { benchPlan(b, rs, text, 0) })
}

func BenchmarkPlanOneChain(b *testing.B) {
	sizes(b, func(b *testing.B, rs rules.Ruleset, text []byte) {
		list := rs.Chains[0].Rules.Slice()
		list[0].Policy.Reqid = 77
		rs.Chains[0].Rules = rules.ListOf(list...)
		benchPlan(b, rs, text, 1)
	})
}

func BenchmarkPlanFirst(b *testing.B) {
	sizes(b, func(b *testing.B, rs rules.Ruleset, _ []byte) { benchPlan(b, rs, nil, len(rs.Chains)) })
}

func BenchmarkValidate(b *testing.B) {
	sizes(b, func(b *testing.B, rs rules.Ruleset, _ []byte) {
		for b.Loop() {
			if err := rules.Validate(rs); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchPlan(b *testing.B, rs rules.Ruleset, text []byte, written int) {
	b.Helper()
	save, err := live.Parse(text)
	if err != nil {
		b.Fatal(err)
	}
	have := map[xfrm.Family]live.Tables{rs.Family: save}
	for b.Loop() {
		change, err := plan.Make([]rules.Ruleset{rs}, have)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for _, s := range change.Steps {
			n += s.Counts.Written
		}
		if n != written {
			b.Fatalf("%d chains written, want %d", n, written)
		}
	}
}
