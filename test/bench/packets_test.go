package main

import (
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
)

// A packet in clear that is no tunnel's meets the same few rules however many
// tunnels there are, and all packets get through.
func TestFewRulesForOthers(t *testing.T) {
	first := make(map[string]int)
	for _, n := range []int{10, 1000} {
		in := input(snapshot(n, false))
		in.Host.NoIPv6 = true
		w := newWalker(compile.Compile(in).Rulesets[0])
		for _, c := range append(cleartext(n), inESP(n)...) {
			others := strings.HasPrefix(c.what, "cleartext") && !strings.Contains(c.what, "within")
			met, through := w.met(c.ways(n))
			if through == strings.HasSuffix(c.what, "dropped") {
				t.Errorf("%d tunnels: %s: got through: %v", n, c.what, through)
			}
			switch {
			case !through: // a packet that no tunnel verified is looked for among all
			case n == 10:
				first[c.what] = met
			case others && met != first[c.what]:
				t.Errorf("%s: %d rules with 10 tunnels, %d with %d", c.what, first[c.what], met, n)
			case met > first[c.what]+64:
				t.Errorf("%s: %d rules with 10 tunnels, %d with %d", c.what, first[c.what], met, n)
			}
			if others && met > 21 {
				t.Errorf("%s meets %d rules", c.what, met)
			}
		}
	}
}
