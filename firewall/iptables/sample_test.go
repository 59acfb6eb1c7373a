package iptables

import (
	"fmt"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// TestSamples: iptables and the kernel take each kind of rule that we write, and the
// rules that they print are known again.
func TestSamples(t *testing.T) {
	eachVariant(t, func(t *testing.T, p *Programs) {
		for _, s := range fake.Samples() {
			t.Run(s.Name, func(t *testing.T) {
				rs := s.Ruleset()
				mustApply(t, p, planFor(t, p, rs))
				if again := planFor(t, p, rs); !again.Empty() {
					t.Errorf("the second plan is not empty:\n%s", again.Steps[0].Text)
				}
			})
		}
	})
}

// TestDepth: as deep as Validate allows, nftables allows.
func TestDepth(t *testing.T) {
	each(t, func(t *testing.T, p *Programs, family xfrm.Family) {
		rs := rules.Ruleset{Family: family, Hooks: []rules.Hook{{Table: rules.Mangle, From: "FORWARD", To: "XFRMFW-0"}}}
		for i := range 15 {
			c := rules.Chain{Table: rules.Mangle, Name: fmt.Sprintf("XFRMFW-%d", i)}
			if i < 14 {
				c.Rules = rules.ListOf(rules.Rule{Purpose: "x", Target: rules.Target{Verb: rules.Goto, Chain: fmt.Sprintf("XFRMFW-%d", i+1)}})
			}
			rs.Chains = append(rs.Chains, c)
		}
		mustApply(t, p, planFor(t, p, rs))
		rs.Chains[14].Rules = rules.ListOf(rules.Rule{Purpose: "x", Target: rules.Target{Verb: rules.Jump, Chain: "XFRMFW-15"}})
		rs.Chains = append(rs.Chains, rules.Chain{Table: rules.Mangle, Name: "XFRMFW-15"})
		if err := rules.Validate(rs); err == nil {
			t.Error("Validate allows more")
		}
	})
}
