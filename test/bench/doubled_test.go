package main

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// shapes are gateways that peers, or their administrator, can make large: work that is
// done for each of their parts with each other shows in them.
var shapes = []struct {
	name string
	host func(n int) xfrm.Host
	site func(i int) sample.Site
}{
	{"tunnels of one remote", nil, func(i int) sample.Site {
		return oneSite(i, numbered(i), "10.1.0.0/16")
	}},
	{"pairs of one tunnel, one remote", nil, func(i int) sample.Site {
		return oneSite(0, numbered(i), "10.1.0.0/16")
	}},
	{"pairs of one tunnel, one local", nil, func(i int) sample.Site {
		return oneSite(0, "10.2.0.0/24", numbered(i))
	}},
	{"tunnels of one local", nil, func(i int) sample.Site {
		return oneSite(i, "10.2.0.0/24", numbered(i))
	}},
	{"tunnels of one pair", nil, func(i int) sample.Site {
		return oneSite(i, "10.2.0.0/24", "10.1.0.0/16")
	}},
	{"guards and routes", func(n int) xfrm.Host {
		h := sample.Sun()
		for i := range n {
			h.Routes = append(h.Routes, xfrm.Route{Dst: netip.MustParsePrefix(fmt.Sprintf("172.%d.%d.0/24", 16+i/250, i%250)), Link: 3, Via: netip.MustParseAddr("10.2.0.99")})
		}
		return h
	}, func(i int) sample.Site {
		return oneSite(i, "10.2.0.0/24", numbered(i))
	}},
	{"guards and addresses", func(n int) xfrm.Host {
		h := sample.Sun()
		for i := range n {
			h.Addresses = append(h.Addresses, xfrm.Address{Link: 3, Prefix: netip.MustParsePrefix(fmt.Sprintf("172.%d.%d.1/24", 16+i/250, i%250))})
			h.Routes = append(h.Routes, xfrm.Route{Dst: netip.MustParsePrefix(fmt.Sprintf("172.%d.%d.0/24", 16+i/250, i%250)), Link: 3, Connected: true})
		}
		return h
	}, func(i int) sample.Site {
		return oneSite(i, "10.2.0.0/24", numbered(i))
	}},
	{"tunnels of nested remotes", nil, func(i int) sample.Site {
		return oneSite(i, "10.2.0.0/24", fmt.Sprintf("10.%d.0.0/%d", 64+(i/16)%64, 10+i%16))
	}},
	{"spokes of a hub", nil, func(i int) sample.Site {
		return oneSite(i, "10.0.0.0/8", numbered(i))
	}},
	{"leases of road warriors", nil, func(i int) sample.Site {
		return oneSite(i, "0.0.0.0/0", fmt.Sprintf("10.99.%d.%d/32", i/250, 1+i%250))
	}},
	{"tunnels that are down", nil, func(i int) sample.Site {
		s := oneSite(i, fmt.Sprintf("10.99.%d.%d/32", i/250, 1+i%250), numbered(i))
		s.Down = true
		return s
	}},
	{"remotes that cover connected networks", func(int) xfrm.Host {
		h := sample.Sun()
		for i := range 8 { // each pair has a rule for each of them
			h.Addresses = append(h.Addresses, xfrm.Address{Link: 3, Prefix: netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.1/24", 16+i/250, i%250))})
			h.Routes = append(h.Routes, xfrm.Route{Dst: netip.MustParsePrefix(fmt.Sprintf("10.%d.%d.0/24", 16+i/250, i%250)), Link: 3, Connected: true})
		}
		return h
	}, func(i int) sample.Site {
		return oneSite(i, numbered(i), "10.0.0.0/8")
	}},
	{"xfrm interfaces", func(n int) xfrm.Host {
		h := sample.Sun()
		for i := range n {
			h.Links = append(h.Links, xfrm.Link{Index: int32(10 + i), Name: fmt.Sprint("ipsec", i), Kind: "xfrm", IfID: uint32(i + 1), Up: true})
			h.Routes = append(h.Routes, xfrm.Route{Dst: netip.MustParsePrefix(numbered(i)), Link: int32(10 + i), Connected: true})
		}
		return h
	}, func(i int) sample.Site {
		s := oneSite(i, "0.0.0.0/0", "0.0.0.0/0")
		s.IfID = uint32(i + 1)
		return s
	}},
	{"VTIs", func(n int) xfrm.Host {
		h := sample.Sun()
		for i := range n {
			h.Links = append(h.Links, xfrm.Link{
				Index: int32(10 + i), Name: fmt.Sprint("vti", i), Kind: "vti", IKey: uint32(i + 1), OKey: uint32(i + 1), Up: true,
				Local: netip.MustParseAddr("192.0.2.2"), Remote: netip.MustParseAddr(fmt.Sprintf("198.51.%d.%d", 100+i/250, 1+i%250)),
			})
			h.Routes = append(h.Routes, xfrm.Route{Dst: netip.MustParsePrefix(numbered(i)), Link: int32(10 + i), Connected: true})
		}
		return h
	}, func(i int) sample.Site {
		s := oneSite(i, "0.0.0.0/0", "0.0.0.0/0")
		s.Mark = xfrm.Mark{Value: uint32(i + 1), Mask: 0xffffffff}
		return s
	}},
	{"GRE devices", func(n int) xfrm.Host {
		h := sample.Sun()
		for i := range n {
			h.Links = append(h.Links, xfrm.Link{Index: int32(10 + i), Name: fmt.Sprint("gre", i), Kind: "gre", Up: true, Local: netip.MustParseAddr("192.0.2.2"), Remote: netip.MustParseAddr(fmt.Sprintf("198.51.%d.%d", 100+i/250, 1+i%250))})
			h.Routes = append(h.Routes, xfrm.Route{Dst: netip.MustParsePrefix(numbered(i)), Link: int32(10 + i), Connected: true})
		}
		return h
	}, func(i int) sample.Site {
		s := oneSite(i, "192.0.2.2/32", fmt.Sprintf("198.51.%d.%d/32", 100+i/250, 1+i%250))
		s.Transport, s.Proto = true, xfrm.GRE
		return s
	}},
}

// oneSite is a tunnel of its own, or a further pair of one, by its number.
func oneSite(i int, local, remote string) sample.Site {
	return sample.Site{Reqid: uint32(i + 1), Local: "192.0.2.2", Remote: fmt.Sprintf("198.51.%d.%d", 100+i/250, 1+i%250), Pairs: [][2]string{{local, remote}}}
}

// numbered is a network of its own for each number.
func numbered(i int) string { return fmt.Sprintf("10.%d.%d.0/28", 100+i/250, i%250) }

// parts are those of a whole apply but for the kernel, in their order.
var parts = []string{"join", "decide", "rules", "plan", "remember"}

// processorTime is the time that this process had of the processors, with that of the
// garbage collector. Other programs on a busy machine don't count.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// oneShot returns the processor times of the parts, and how many rules there are.
func oneShot(s xfrm.Snapshot) (took map[string]time.Duration, count int, err error) {
	took = make(map[string]time.Duration)
	last := processorTime()
	part := func(name string) {
		now := processorTime()
		took[name], last = now-last, now
	}
	set := xfrm.Tunnels(s)
	part("join")
	facts := decide.Facts(inputOf(s, set))
	part("decide")
	sets := compile.Rulesets(facts)
	part("rules")
	_, err = plan.Make(sets, map[xfrm.Family]live.Tables{xfrm.IPv4: {}, xfrm.IPv6: {}})
	part("plan")
	guard.Remember(nil, guard.Live(set, s.Host), set, s.Host, nil, guard.Config{}, 1)
	part("remember")
	for _, rs := range sets {
		for _, c := range rs.Chains {
			count += c.Rules.Len()
		}
	}
	return took, count, err
}

// shaped is the snapshot of a shape with n sites.
func shaped(n int, host func(int) xfrm.Host, site func(int) sample.Site) xfrm.Snapshot {
	h := sample.Sun()
	if host != nil {
		h = host(n)
	}
	sites := make([]sample.Site, n)
	for i := range sites {
		sites[i] = site(i)
	}
	return sample.Snapshot(h, sites...)
}

// Twice the sites have no more than about twice the rules, and take twice the memory on
// the way. The time is BenchmarkDoubled's to show, because it is never the same.
func TestTwiceTheSitesTakeTwiceTheWork(t *testing.T) {
	const n, most = 400, 2.7
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			var rules, bytes [2]int
			for i := range 2 {
				snapshot := shaped(n<<i, s.host, s.site)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, count, err := oneShot(snapshot)
				runtime.ReadMemStats(&after)
				if err != nil {
					t.Fatal(err)
				}
				rules[i], bytes[i] = count, int(after.TotalAlloc-before.TotalAlloc)
			}
			t.Logf("%d and %d rules, %d and %d bytes", rules[0], rules[1], bytes[0], bytes[1])
			if ratio := float64(rules[1]) / float64(rules[0]); ratio > most {
				t.Errorf("%.1f times the rules", ratio)
			}
			if ratio := float64(bytes[1]) / float64(bytes[0]); ratio > most {
				t.Errorf("%.1f times the memory", ratio)
			}
		})
	}
}

// A tunnel of thousands of pairs takes a second or two of the processors: a minute and more
// where each pair meets each other one.
func TestThousandsOfPairsTakeSeconds(t *testing.T) {
	const n, most = 8000, 15 * time.Second
	snapshot := shaped(n, nil, func(i int) sample.Site { return oneSite(0, numbered(i), "10.1.0.0/16") })
	began := processorTime()
	took, count, err := oneShot(snapshot)
	whole := processorTime() - began
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pairs, %d rules: %v, %v", n, count, whole, took)
	if whole > most {
		t.Errorf("%v of the processors, want %v at most", whole, most)
	}
}

// BenchmarkDoubled measures the parts with n sites, and how many times as long they take
// with 2n: about 2 where the work grows with the sites, 4 with their square.
func BenchmarkDoubled(b *testing.B) {
	const n = 1000
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			once, twice := shaped(n, s.host, s.site), shaped(2*n, s.host, s.site)
			least := func(least map[string]time.Duration, s xfrm.Snapshot) {
				took, _, err := oneShot(s)
				if err != nil {
					b.Fatal(err)
				}
				for name, d := range took {
					if was, ok := least[name]; !ok || d < was {
						least[name] = d
					}
				}
			}
			first, second := make(map[string]time.Duration), make(map[string]time.Duration)
			for b.Loop() {
				least(first, once)
				least(second, twice)
			}
			for _, name := range parts {
				b.ReportMetric(first[name].Seconds()*1000, name+"-ms")
				b.ReportMetric(second[name].Seconds()/first[name].Seconds(), name+"-ratio")
			}
		})
	}
}
