package gateway

import (
	"fmt"
	"reflect"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/firewall/prove"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// tested is the outcome of the configuration's tests, and all that it depends on.
type tested struct {
	rules    *rules.Ruleset
	host     xfrm.Host
	policies []xfrm.Policy
	outcomes []prove.Outcome
}

// ProvableRules are the wanted rules in the form of iptables. They tell the cases of packets,
// also where a table of nftables decides by the same facts.
func (l Look) ProvableRules() []rules.Ruleset {
	if l.Engine == engine.IPTables {
		return l.Result.Rulesets
	}
	return compile.Rulesets(l.Result.Facts)
}

// test runs the tests of the configuration, unless all that they depend on is as it was.
func (g *Gateway) test(l *Look) {
	if len(g.config.Tests) == 0 {
		return
	}
	now := tested{host: l.Snapshot.Host, policies: l.Snapshot.Policies}
	if len(l.Result.Rulesets) > 0 {
		now.rules = &l.Result.Rulesets[0]
	}
	if before := g.tested; before.outcomes != nil && before.rules == now.rules && now.rules != nil &&
		reflect.DeepEqual(before.host, now.host) && reflect.DeepEqual(before.policies, now.policies) {
		now.outcomes = before.outcomes
	} else {
		var table sets.Table
		if l.Engine == engine.NFTables {
			table = l.Table
		}
		now.outcomes = prove.RunTests(g.config.Tests, &l.Result.Facts, l.ProvableRules(), table, l.Snapshot, l.Set)
	}
	g.tested = now
	l.Tests = now.outcomes
	l.Warnings = append(l.Warnings, l.TestWarnings()...)
}

// TestWarnings name the tests that failed, one line each.
func (l Look) TestWarnings() []string {
	var lines []string
	for _, o := range l.FailedTests() {
		lines = append(lines, fmt.Sprintf("test %q of the configuration fails: expect %s, got %s; see xfrmfw test", o.Test.Name, o.Test.Expect, o.Got))
	}
	return lines
}

// FailedTests are the outcomes of the tests that failed.
func (l Look) FailedTests() []prove.Outcome {
	var failed []prove.Outcome
	for _, o := range l.Tests {
		if !o.Held {
			failed = append(failed, o)
		}
	}
	return failed
}

// ByHand reports whether the gateway is a user's own command. Such a command takes the
// file's configuration, confirmed or not, and a failing test stops it.
func (g *Gateway) ByHand() bool { return g.options.Trust == TrustFile }
