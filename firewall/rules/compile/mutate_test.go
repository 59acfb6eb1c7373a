package compile

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The mutation campaign of scripts/soak takes each kind of rule that the compiler emits
// out of the rule sets, and then each single rule, and runs the tests. A rule that no
// test misses is either a second line of defence or untested.
//
//	XFRMFW_RULES=FILE  appends the rules that the tests compile to a file: its
//	                   kind, the rule, and the test, with tabs between
//	XFRMFW_WITHOUT=X   takes this kind, or this rule, out before packets are
//	                   traced

func mutate(t *testing.T, rs rules.Ruleset) rules.Ruleset {
	t.Helper()
	if file := os.Getenv("XFRMFW_RULES"); file != "" {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range rs.Chains {
			for _, r := range c.Rules.All() {
				test, _, _ := strings.Cut(t.Name(), "/")
				_, _ = fmt.Fprintf(f, "%s\t%s\t%s\n", fake.Kind(c, rs.Family, r), name(c, rs.Family, r), test)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	what := os.Getenv("XFRMFW_WITHOUT")
	if what == "" {
		return rs
	}
	return fake.Without(rs, func(c rules.Chain, _ int, r rules.Rule) bool {
		return name(c, rs.Family, r) == what || fake.Kind(c, rs.Family, r) == what
	})
}

// name names a single rule, wherever it is compiled.
func name(c rules.Chain, family xfrm.Family, r rules.Rule) string {
	return fmt.Sprintf("%s %s %s %s: %s %s", family, c.Table, c.Name, r.Purpose, r.Text(family), r.Tunnel)
}
