package prove

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

var ways = []firewall.Way{firewall.ToHost, firewall.Through, firewall.FromHost}

// gateway is a host with its decisions and its rules of iptables.
type gateway struct {
	name string
	// families are those that a test asks about.
	families []xfrm.Family
	in       firewall.Input
	facts    firewall.Facts
	sets     map[xfrm.Family]rules.Ruleset
}

func newGateway(name string, in firewall.Input, families ...xfrm.Family) gateway {
	g := gateway{name: name, in: in, facts: decide.Facts(in), sets: make(map[xfrm.Family]rules.Ruleset)}
	for _, rs := range compile.Rulesets(g.facts) {
		if len(families) == 0 || slices.Contains(families, rs.Family) {
			g.sets[rs.Family] = rs
			g.families = append(g.families, rs.Family)
		}
	}
	return g
}

func randomGateway(seed uint64) gateway {
	return newGateway(fmt.Sprintf("seed %d", seed), fake.Gateway(rand.New(rand.NewPCG(seed, 4242))))
}

// randomGateways are few, or as many as a campaign of scripts/soak asks for.
func randomGateways(t *testing.T, few uint64) iter.Seq[gateway] {
	t.Helper()
	if text := os.Getenv("XFRMFW_WORLDS"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			t.Fatalf("XFRMFW_WORLDS: %v", err)
		}
		few = n
	}
	return func(yield func(gateway) bool) {
		for seed := range few {
			if !yield(randomGateway(seed)) {
				return
			}
		}
	}
}

// faults are the packets that were once judged wrongly: those of IPv4, and with a
// campaign of scripts/soak their mirrors in IPv6.
func faults() []fake.Fault {
	return slices.DeleteFunc(fake.Faults(), func(f fake.Fault) bool {
		return os.Getenv("XFRMFW_WORLDS") == "" && xfrm.FamilyOf(f.Passage.Received.Src) != xfrm.IPv4
	})
}

// gateways are those of the packets that were once judged wrongly, each once, and random
// ones. Without a campaign it takes one of the first in so many.
func gateways(t *testing.T, oneIn int, few uint64) iter.Seq[gateway] {
	t.Helper()
	random := randomGateways(t, few)
	return func(yield func(gateway) bool) {
		asked := make(map[string]bool)
		for _, fault := range faults() {
			g := newGateway(fault.Name, fault.Input, xfrm.FamilyOf(fault.Passage.Received.Src))
			key := fmt.Sprintf("%+v", g.facts)
			if asked[key] {
				continue
			}
			asked[key] = true
			if os.Getenv("XFRMFW_WORLDS") == "" && len(asked)%oneIn != 0 {
				continue
			}
			if !yield(g) {
				return
			}
		}
		random(yield)
	}
}

// firewall is the rules of one family, in a space with all interfaces of the host.
func (g *gateway) firewall(family xfrm.Family) *evaluate.Firewall {
	return evaluate.NewFirewall(g.sets[family], &g.facts, Values(g.in), false)
}

// table is the table of nftables that decides alone.
func (g *gateway) table(family xfrm.Family, noNAT bool) *evaluate.Firewall {
	return evaluate.NewTable(program.Table(&g.facts, program.Options{}), family, &g.facts, Values(g.in), noNAT)
}
