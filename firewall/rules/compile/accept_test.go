package compile

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/accept"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The accepts beside the table of nftables take what the table verified out of a state,
// and on the policy match alone the packets that must carry no bit, of their own tunnel.
func TestAcceptsBesideTheTable(t *testing.T) {
	bare := sunSite()
	bare.Mark = xfrm.Mark{Value: 0, Mask: 0xffffffff}
	bits := func(p trace.Packet, mark uint32) trace.Packet { p.Mark = mark; return p }
	inside := from(1, "10.1.0.10", "10.2.0.10")
	for _, tc := range []struct {
		name string
		bare bool
		p    trace.Packet
		want rules.Verb
	}{
		{"verified", false, bits(inside, verified), rules.Accept},
		{"not verified", false, inside, rules.Return},
		{"verified, without a policy", false, bits(clear4("10.1.0.10", "10.2.0.10"), verified), rules.Return},
		{"must carry no bit", true, inside, rules.Accept},
		{"must carry no bit, from elsewhere", true, from(1, "10.9.0.10", "10.2.0.10"), rules.Return},
		{"must carry no bit, out of another state", true, from(2, "10.1.0.10", "10.2.0.10"), rules.Return},
		{"must carry no bit, in clear", true, clear4("10.1.0.10", "10.2.0.10"), rules.Return},
	} {
		t.Run(tc.name, func(t *testing.T) {
			site := sunSite()
			if tc.bare {
				site = bare
			}
			s := snapshotOf(sunHost(), site)
			f := decide.Facts(firewall.Input{Set: xfrm.Tunnels(s), Host: s.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()}})
			for _, rs := range accept.Rulesets(f) {
				if rs.Family != xfrm.IPv4 {
					continue
				}
				for _, hook := range []string{"INPUT", "FORWARD"} {
					if _, got, _ := trace.NewEvaluator(rs).Trace(rules.Filter, hook, tc.p); got != tc.want {
						t.Errorf("%s: %s, want %s", hook, got, tc.want)
					}
				}
			}
		})
	}
}
