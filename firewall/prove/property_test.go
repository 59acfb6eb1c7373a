package prove

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// All properties hold for the rules of random gateways.
func TestPropertiesHold(t *testing.T) {
	for seed := range worlds(t, 4) {
		g := randomGateway(seed)
		for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
			rs, ok := g.sets[family]
			if !ok {
				continue
			}
			for _, f := range Prove(evaluate.NewFirewall(rs, &g.facts, g.devices(), false), &g.facts, nil) {
				t.Errorf("seed %d: %s (%s): %+v", seed, f.Property.Name, f.Property.Says, f.Packet)
			}
		}
	}
}
