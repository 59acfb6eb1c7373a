package firewall_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// big is a tree of chains with n rules in its leaves, sixteen in each.
func big(n int) firewall.Ruleset {
	rs := firewall.Ruleset{
		Family: xfrm.IPv4,
		Hooks:  []firewall.Hook{{Table: firewall.Mangle, From: "PREROUTING", To: "XFRMFW-PRE"}},
	}
	var root []firewall.Rule
	for i := 0; i < n; i += 16 {
		leaf := firewall.Chain{Table: firewall.Mangle, Name: fmt.Sprintf("XFRMFW-PRE-%x", i)}
		var rules []firewall.Rule
		for j := i; j < min(i+16, n); j++ {
			rules = append(rules, firewall.Rule{
				Src: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(j >> 16), byte(j >> 8), byte(j)}), 32), Dst: netip.MustParsePrefix("10.200.0.0/16"),
				Mark:    firewall.MarkMatch{Value: 0x10000000, Mask: 0x10000000},
				Policy:  firewall.PolicyMatch{Dir: firewall.PolicyIn, Proto: xfrm.ESP, HasReqid: true, Reqid: uint32(j)},
				Target:  firewall.Target{Verb: firewall.SetMark, Value: 0x20000000, Mask: 0x20000000},
				Purpose: "verified", Tunnel: fmt.Sprintf("t%08x", j),
			})
		}
		r := firewall.Rule{Target: firewall.Target{Verb: firewall.Jump, Chain: leaf.Name}, Purpose: "x"}
		r.Src = netip.PrefixFrom(rules[0].Src.Addr(), 28)
		root = append(root, r)
		leaf.Rules = firewall.RulesOf(rules...)
		rs.Chains = append(rs.Chains, leaf)
	}
	rs.Chains = append(rs.Chains, firewall.Chain{Table: firewall.Mangle, Name: "XFRMFW-PRE", Rules: firewall.RulesOf(root...)})
	return rs
}

func sizes(b *testing.B, run func(b *testing.B, rs firewall.Ruleset, text []byte)) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			rs := big(n)
			b.ReportAllocs()
			run(b, rs, printedSave(b, rs))
		})
	}
}

// printedSave is what iptables-save prints of a rule set that stands.
func printedSave(b *testing.B, rs firewall.Ruleset) []byte {
	b.Helper()
	k := &fake.Kernel{}
	change, err := firewall.Plan([]firewall.Ruleset{rs}, map[firewall.Family]firewall.Save{rs.Family: {}})
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
	sizes(b, func(b *testing.B, _ firewall.Ruleset, text []byte) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if _, err := firewall.ParseSave(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPlanUnchanged(b *testing.B) {
	sizes(b, func(b *testing.B, rs firewall.Ruleset, text []byte) { benchPlan(b, rs, text, 0) })
}

func BenchmarkPlanOneChain(b *testing.B) {
	sizes(b, func(b *testing.B, rs firewall.Ruleset, text []byte) {
		rules := rs.Chains[0].Rules.Slice()
		rules[0].Policy.Reqid = 77
		rs.Chains[0].Rules = firewall.RulesOf(rules...)
		benchPlan(b, rs, text, 1)
	})
}

func BenchmarkPlanFirst(b *testing.B) {
	sizes(b, func(b *testing.B, rs firewall.Ruleset, _ []byte) { benchPlan(b, rs, nil, len(rs.Chains)) })
}

func BenchmarkValidate(b *testing.B) {
	sizes(b, func(b *testing.B, rs firewall.Ruleset, _ []byte) {
		for b.Loop() {
			if err := firewall.Validate(rs); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchPlan(b *testing.B, rs firewall.Ruleset, text []byte, written int) {
	b.Helper()
	save, err := firewall.ParseSave(text)
	if err != nil {
		b.Fatal(err)
	}
	have := map[firewall.Family]firewall.Save{rs.Family: save}
	for b.Loop() {
		change, err := firewall.Plan([]firewall.Ruleset{rs}, have)
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
