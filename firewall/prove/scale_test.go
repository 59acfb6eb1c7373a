package prove

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// BenchmarkCost is a proof for 100 tunnels, or XFRMFW_TUNNELS, no two of them neighbours,
// with either engine and family: seconds, nodes and MiB, and how often those of a tenth of
// the tunnels. Nodes depend on no other load. XFRMFW_OWN_LOCALS gives each tunnel a local
// network of its own. Run it once, with -benchtime 1x.
func BenchmarkCost(b *testing.B) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("XFRMFW_TUNNELS"), "100"))
	if err != nil {
		b.Fatal(err)
	}
	for range b.N {
		for _, engine := range []string{"iptables", "nftables"} {
			for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
				own := os.Getenv("XFRMFW_OWN_LOCALS") != ""
				few, many := costOf(b, engine, family, n/10, own, every...), costOf(b, engine, family, n, own, every...)
				fmt.Fprintf(os.Stderr, "%s %s: %d tunnels, %.1f s, %d nodes, at most %d at once, %d MiB; of %d tunnels %.1f times the time, %.1f times the nodes\n",
					engine, family, n, many.spent.Seconds(), many.nodes, many.most, many.memory, n/10,
					many.spent.Seconds()/few.spent.Seconds(), float64(many.nodes)/float64(few.nodes))
			}
		}
	}
}

// proofCost is the cost of a proof. Most are the nodes of the way that has most of them, and
// memory is MiB from the system in all proofs so far.
type proofCost struct {
	spent       time.Duration
	nodes, most int
	memory      uint64
}

// Nodes grow as the tunnels do, with local networks in common or each its own: four times
// the tunnels have at most five times the nodes, and not sixteen times.
func TestCostGrowsWithTunnels(t *testing.T) {
	for _, test := range []struct {
		engine string
		own    bool
		way    firewall.Way
	}{{"nftables", false, firewall.Through}, {"iptables", true, firewall.ToHost}} {
		few, many := costOf(t, test.engine, xfrm.IPv4, 25, test.own, test.way), costOf(t, test.engine, xfrm.IPv4, 100, test.own, test.way)
		if many.nodes > 5*few.nodes {
			t.Errorf("%+v: 25 tunnels have %d nodes, 100 have %d", test, few.nodes, many.nodes)
		}
	}
}

// costOf proves the rules for n tunnels, which have one local network or each its own.
func costOf(b testing.TB, engine string, family xfrm.Family, n int, own bool, ways ...firewall.Way) proofCost {
	b.Helper()
	var sites []sample.Site
	for i := range n {
		local4, local6 := "10.2.0.0/24", "fd00:2::/64"
		if own {
			local4, local6 = fmt.Sprintf("172.%d.%d.0/24", 16+i/256, i%256), fmt.Sprintf("fd00:2:%x::/64", i)
		}
		sites = append(sites, sample.Site{
			Reqid: uint32(1 + i), Local: "192.0.2.2", Remote: fmt.Sprintf("203.%d.%d.1", i/256, i%256),
			Pairs: [][2]string{{local4, fmt.Sprintf("10.%d.%d.0/24", 64+i/128, 2*(i%128))}, {local6, fmt.Sprintf("fd00:64:%x::/64", 2*i)}},
		})
	}
	s := sample.Snapshot(sample.Sun(), sites...)
	in := firewall.Input{Set: xfrm.Tunnels(s), Host: s.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()}}
	facts := decide.Facts(in)
	make := func() *evaluate.Firewall {
		return evaluate.NewTable(program.Table(&facts, program.Options{}), family, &facts, Values(in), false)
	}
	if engine == "iptables" {
		for _, rs := range compile.Rulesets(facts) {
			if rs.Family == family {
				make = func() *evaluate.Firewall { return evaluate.NewFirewall(rs, &facts, Values(in), false) }
			}
		}
	}
	began := time.Now()
	var cost proofCost
	for _, way := range ways {
		w := make()
		for _, f := range ProveOn(way, w, &facts, in, nil, nil) {
			b.Errorf("%s: %+v", f.Property.Name, f.Packet)
		}
		cost.nodes, cost.most = cost.nodes+w.Len(), max(cost.most, w.Len())
		if err := w.Odd(); err != nil {
			b.Error(err)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	cost.spent, cost.memory = time.Since(began), m.Sys>>20
	return cost
}
