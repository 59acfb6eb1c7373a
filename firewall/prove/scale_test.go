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
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// BenchmarkCost is a proof for 100 tunnels, or XFRMFW_TUNNELS, no two of them neighbours:
// seconds and MiB. Run it once, with -benchtime 1x.
func BenchmarkCost(b *testing.B) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("XFRMFW_TUNNELS"), "100"))
	if err != nil {
		b.Fatal(err)
	}
	for range b.N {
		cost(b, n)
	}
}

func cost(t *testing.B, n int) {
	var sites []sample.Site
	for i := range n {
		sites = append(sites, sample.Site{
			Reqid: uint32(1 + i), Local: "192.0.2.2", Remote: fmt.Sprintf("203.%d.%d.1", i/256, i%256),
			Pairs: [][2]string{{"10.2.0.0/24", fmt.Sprintf("10.%d.%d.0/24", 64+i/128, 2*(i%128))}, {"fd00:2::/64", fmt.Sprintf("fd00:64:%x::/64", 2*i)}},
		})
	}
	s := sample.Snapshot(sample.Sun(), sites...)
	in := firewall.Input{Set: xfrm.Tunnels(s), Host: s.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()}}
	facts := decide.Facts(in)
	for _, rs := range compile.Rulesets(facts) {
		began := time.Now()
		w := evaluate.NewFirewall(rs, &facts, Values(in), false)
		last, done := began, 0
		for _, f := range Prove(w, &facts, in, nil, func() {
			if cost := time.Since(last); cost > time.Second {
				t.Logf("  step %d (%s): %s, %d nodes", done, Properties()[done%len(Properties())].Name, cost.Round(10*time.Millisecond), w.Len())
			}
			last = time.Now()
			done++
		}) {
			t.Errorf("%s: %+v", f.Property.Name, f.Packet)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		t.Logf("%s, %d tunnels: %s, %d nodes, %d MiB from the system", rs.Family, n, time.Since(began).Round(10*time.Millisecond), w.Len(), m.Sys>>20)
	}
}
