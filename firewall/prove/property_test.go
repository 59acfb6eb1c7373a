package prove

import (
	"testing"
)

// All properties hold for the rules of gateways.
func TestPropertiesHold(t *testing.T) {
	for g := range gateways(t, 2, 2) {
		for _, family := range g.families {
			w := g.firewall(family)
			for _, f := range Prove(w, &g.facts, g.in, nil, nil) {
				t.Errorf("%s: %s (%s): %s", g.name, f.Property.Name, f.Property.Says, Describe(f.Packet))
			}
			if err := w.Odd(); err != nil {
				t.Errorf("%s: %v", g.name, err)
			}
		}
	}
}

// All properties hold for the tables of gateways.
func TestPropertiesHoldOfTables(t *testing.T) {
	for g := range gateways(t, 5, 1) {
		for _, family := range g.families {
			for _, f := range Prove(g.table(family, false), &g.facts, g.in, nil, nil) {
				t.Errorf("%s: %s (%s): %s", g.name, f.Property.Name, f.Property.Says, Describe(f.Packet))
			}
		}
	}
}
