package prove

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// gateway is a random host with its decisions.
type gateway struct {
	in    firewall.Input
	facts firewall.Facts
	sets  map[xfrm.Family]rules.Ruleset
}

func randomGateway(seed uint64) gateway {
	g := gateway{in: fake.Gateway(rand.New(rand.NewPCG(seed, 4242))), sets: make(map[xfrm.Family]rules.Ruleset)}
	g.facts = decide.Facts(g.in)
	for _, rs := range compile.Rulesets(g.facts) {
		g.sets[rs.Family] = rs
	}
	return g
}

// worlds is how many random gateways a test takes: few, or as many as a campaign of
// scripts/soak asks for.
func worlds(t *testing.T, few uint64) uint64 {
	t.Helper()
	text := os.Getenv("XFRMFW_WORLDS")
	if text == "" {
		return few
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatalf("XFRMFW_WORLDS: %v", err)
	}
	return n
}

// devices are all interfaces of the host.
func (g *gateway) devices() []string { return linksOf(g.in.Host) }

func linksOf(host xfrm.Host) []string {
	var names []string
	for _, l := range host.Links {
		names = append(names, l.Name)
	}
	return names
}

// one is a packet with at most one SA on each path.
func one(p firewall.Passage) firewall.Passage {
	p.Path, p.Ahead = p.Path[:min(1, len(p.Path))], p.Ahead[:min(1, len(p.Ahead))]
	p.AheadSent = p.Ahead
	return p
}

// A packet is in the set with the verdict that the packet evaluator gives it, for
// random packets of random gateways, and the drop has the same case.
func TestSetsAreThePacketEvaluator(t *testing.T) {
	const packets = 300
	for seed := range worlds(t, 2) {
		g := randomGateway(seed)
		maker := fake.NewPassages(rand.New(rand.NewPCG(seed, 7)), g.in, &g.facts)
		for family, rs := range g.sets {
			evaluator, w := trace.NewEvaluator(rs), evaluate.NewFirewall(rs, &g.facts, g.devices(), true)
			fates := make(map[firewall.Way]evaluate.Fate)
			for _, way := range []firewall.Way{firewall.ToHost, firewall.Through, firewall.FromHost} {
				fates[way] = w.Run(way, space.All)
			}
			for range packets {
				p := one(maker.Next())
				if xfrm.FamilyOf(p.Received.Src) != family {
					continue
				}
				want, steps := fake.Walk(evaluator, &g.facts, p)
				f := fates[p.Way]
				got := firewall.Verdict{}
				n := 0
				for _, is := range []struct {
					action firewall.Action
					set    space.Set
				}{{firewall.Leave, f.Left}, {firewall.Admit, f.Accepted}, {firewall.Discard, f.Dropped}, {firewall.Refuse, f.Rejected}} {
					if w.Has(is.set, p) {
						got.Action = is.action
						n++
					}
				}
				for _, sets := range []map[firewall.Case]space.Set{f.Discarded, f.Refused} {
					for c, set := range sets {
						if w.Has(set, p) {
							got.Case = c
						}
					}
				}
				if got.Action == firewall.Leave || got.Action == firewall.Admit {
					got.Case = want.Case
				}
				if n != 1 || got != want {
					var met []string
					for _, s := range steps {
						met = append(met, s.String())
					}
					t.Fatalf("seed %d: %s %v of %d verdicts, want %s %v: %+v\n%s", seed, got.Action, got.Case, n, want.Action, want.Case, p, strings.Join(met, "\n"))
				}
			}
		}
	}
}
