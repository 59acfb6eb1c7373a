package prove

import (
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/prove/expect"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// A test of the configuration asks the table of nftables that decides, too.
func TestTestsAskTheTable(t *testing.T) {
	s := sample.Snapshot(sample.Sun())
	local, remote := netip.MustParsePrefix("10.2.0.0/24"), netip.MustParsePrefix("10.1.0.0/24")
	facts := decide.Facts(firewall.Input{
		Host: s.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()},
		Guards: []guard.Guard{{Local: local, Remote: remote, Source: guard.FromConfig}},
	})
	whole := program.Table(&facts, program.Options{})
	empty := whole
	empty.Chains = nil
	for _, c := range whole.Chains {
		c.Rules = nil
		empty.Chains = append(empty.Chains, c)
	}
	tests := []expect.Test{{Name: "leak", Proto: xfrm.TCP, Src: local, Dst: remote, Expect: expect.Verdict{Action: "drop", Word: "leak"}}, {Name: "other", Proto: xfrm.TCP, Src: local, Expect: expect.Verdict{Action: "leave"}, Dst: netip.MustParsePrefix("198.51.100.0/24")}}
	for _, tt := range []struct {
		name  string
		table sets.Table
		held  []bool
		got   string
	}{
		{"rules", sets.Table{}, []bool{true, true}, ""},
		{"table", whole, []bool{true, true}, ""},
		{"empty table", empty, []bool{false, true}, "pass by the table of nftables"},
	} {
		for i, o := range RunTests(tests, &facts, compile.Rulesets(facts), tt.table, s, xfrm.Tunnels(s)) {
			if o.Held != tt.held[i] || !o.Held && o.Got != tt.got {
				t.Errorf("%s: %s: held %t, got %q", tt.name, o.Test.Name, o.Held, o.Got)
			}
		}
	}
}
