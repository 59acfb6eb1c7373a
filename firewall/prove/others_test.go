package prove

import (
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// A rule of another program breaks the properties of the packets that it may bring past
// those of xfrmfw, and is named; one that stands behind them, or matches no such packet, is
// harmless.
func TestOthersCanUndo(t *testing.T) {
	s := sample.Snapshot(sample.Sun(), sample.Site{Reqid: 11, Local: "192.0.2.2", Remote: "203.0.113.1", Pairs: [][2]string{{"10.2.0.0/24", "10.1.0.0/24"}}})
	in := firewall.Input{Set: xfrm.Tunnels(s), Host: s.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()}}
	facts := decide.Facts(in)
	verified := facts.Marks.Verified
	ours := compile.Rulesets(facts)[0]
	for _, tt := range []struct {
		name  string
		other live.Other
		// broken are the properties that fail, by engine.
		rules, table []string
	}{
		{"accepts behind ours", live.Other{Table: rules.Filter, Hook: "FORWARD", Ends: true}, nil, nil},
		{"accepts before ours in filter", live.Other{Table: rules.Filter, Hook: "FORWARD", Before: true, Ends: true}, nil, nil},
		{"accepts what leaves", live.Other{Table: rules.Mangle, Hook: "POSTROUTING", Before: true, Ends: true}, []string{"leak", "leak-nat", "leak-error"}, nil},
		{"accepts other packets", live.Other{
			Table: rules.Mangle, Hook: "POSTROUTING", Before: true, Ends: true, Read: true, Matches: rules.Rule{Out: "lo"},
		}, nil, nil},
		{"accepts what arrives", live.Other{Table: rules.Mangle, Hook: "PREROUTING", Before: true, Ends: true}, []string{"verified", "crossed", "inject"}, nil},
		{"writes VERIFIED", live.Other{Table: rules.Mangle, Hook: "PREROUTING", Writes: verified, Sets: verified}, []string{"verified"}, nil},
		{"writes another bit", live.Other{Table: rules.Mangle, Hook: "PREROUTING", Writes: 1}, nil, nil},
		{"hands packets to a program before ours", live.Other{Table: rules.Mangle, Hook: "PREROUTING", Before: true, Ends: true, Stops: true}, []string{"crossed", "inject"}, nil},
		{"hands packets to a program behind ours", live.Other{Table: rules.Mangle, Hook: "PREROUTING", Ends: true, Stops: true}, nil, nil},
		{"hands packets to a program before all", live.Other{Table: "raw", Hook: "PREROUTING", Ends: true, Stops: true}, []string{"crossed", "inject"}, []string{"crossed", "inject"}},
		{"rewrites sources first", live.Other{Table: rules.NAT, Hook: "POSTROUTING", Before: true, Rewrites: true}, []string{"nat"}, nil},
		{"rewrites sources behind ours", live.Other{Table: rules.NAT, Hook: "POSTROUTING", Rewrites: true}, nil, nil},
	} {
		tt.other.Text = tt.name
		tt.other.Priority, _ = tt.other.Table.Priority(tt.other.Hook)
		for engine, want := range map[string][]string{"iptables": tt.rules, "nftables": tt.table} {
			w := evaluate.NewFirewall(ours, &facts, Values(in), false)
			if engine == "nftables" {
				w = evaluate.NewTable(program.Table(&facts, program.Options{}), xfrm.IPv4, &facts, Values(in), false)
			}
			broken := []string(nil)
			for _, f := range Prove(w, &facts, in, []live.Other{tt.other}, nil) {
				if !slices.Equal(f.By, []string{tt.name}) {
					t.Errorf("%s, %s: %s fails by %v", tt.name, engine, f.Property.Name, f.By)
				}
				if !slices.Contains(broken, f.Property.Name) {
					broken = append(broken, f.Property.Name)
				}
			}
			for _, name := range want {
				if !slices.Contains(broken, name) {
					t.Errorf("%s, %s: %s holds, of %v", tt.name, engine, name, broken)
				}
			}
			if len(want) == 0 && len(broken) > 0 {
				t.Errorf("%s, %s: %v fail", tt.name, engine, broken)
			}
		}
	}
}
