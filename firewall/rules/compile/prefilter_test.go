package compile

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

func TestCoverPrefixes(t *testing.T) {
	for _, c := range []struct {
		keys, want []string
	}{
		{[]string{"10.1.0.0/24"}, []string{"10.1.0.0/24"}},
		// Side by side they are as well held by one.
		{[]string{"10.1.0.0/24", "10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24"}, []string{"10.1.0.0/22"}},
		{[]string{"10.1.0.0/16", "172.16.0.0/12", "192.168.3.0/24"}, []string{"10.1.0.0/16", "172.16.0.0/12", "192.168.3.0/24"}},
		{[]string{"10.1.0.0/16", "10.1.2.0/24", "192.168.3.0/24"}, []string{"10.1.0.0/16", "192.168.3.0/24"}},
		{[]string{"0.0.0.0/0", "192.168.3.0/24"}, []string{"0.0.0.0/0"}},
		{[]string{"fd00:1::/32", "2001:db8:1::/48"}, []string{"2001:db8:1::/48", "fd00:1::/32"}},
	} {
		var keys []netip.Prefix
		for _, k := range c.keys {
			keys = append(keys, netip.MustParsePrefix(k))
		}
		var got []string
		for _, p := range prefix.Cover(keys, tree.MaxPrefilter) {
			got = append(got, p.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.keys, got, c.want)
		}
	}
}

// However prefixes lie, each is held, and by one only.
func TestCoverHoldsAll(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	for range 2000 {
		var keys []netip.Prefix
		for range 1 + r.IntN(40) {
			a := netip.AddrFrom4([4]byte{byte(r.IntN(4) * 60), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))})
			bits := r.IntN(33)
			if r.IntN(4) > 0 {
				bits = 16 + r.IntN(17)
			}
			keys = append(keys, netip.PrefixFrom(a, bits).Masked())
		}
		got := prefix.Cover(keys, tree.MaxPrefilter)
		if len(got) > tree.MaxPrefilter {
			t.Fatalf("%v: %d prefixes", keys, len(got))
		}
		for _, k := range keys {
			n := 0
			for _, p := range got {
				if p.Overlaps(k) {
					n++
					if p.Bits() > k.Bits() {
						n += 10
					}
				}
			}
			if n != 1 {
				t.Fatalf("%s is not held by one of %v", k, got)
			}
		}
	}
}

// A packet that none of a gateway's guards is about meets few of their rules, however
// many tunnels there are.
func TestOthersPassTheGuardsBy(t *testing.T) {
	met := make(map[int]int)
	for _, n := range []int{5, 400} {
		var sites []sample.Site
		for i := range n {
			sites = append(sites, peer(i+1, fmt.Sprintf("203.0.%d.%d", i/250, i%250+1), [2]string{sunLAN, fmt.Sprintf("10.%d.%d.0/24", 100+i/250, i%250)}))
		}
		w := compileWorld(t, snapshotOf(sunHost(), sites...), firewall.Config{})
		in := clear4("198.51.100.7", "10.2.0.10")
		out := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("198.51.100.7"), In: "eth1", Out: "eth0"}
		for _, p := range []passage{w.arrive(in, nil), w.forward(out), w.send(out)} {
			if p.final != rules.Return {
				t.Errorf("%d tunnels: verdict %s", n, p.final)
			}
			met[n] += len(p.steps)
		}
	}
	if met[5] != met[400] || met[5] > 3 {
		t.Errorf("rules that others' packets match, by tunnels: %v", met)
	}
}

// neighbours are so many sites that they are found through trees.
func neighbours() []sample.Site {
	var sites []sample.Site
	for i := range 85 {
		sites = append(sites, peer(i+1, fmt.Sprintf("203.0.113.%d", i+1), [2]string{sunLAN, fmt.Sprintf("10.100.%d.0/24", 3*i)}))
	}
	return sites
}

// A leak past each guard is refused, so that its sender hears of it.
func TestLeaksAreRefusedInATree(t *testing.T) {
	sites := neighbours()
	w := compileWorld(t, snapshotOf(sunHost(), sites...), firewall.Config{})
	for i := range sites {
		out := trace.Packet{Src: addr("10.2.0.10"), Dst: addr(fmt.Sprintf("10.100.%d.9", 3*i)), In: "eth1", Out: "eth0"}
		if got := w.forward(out); got.final != rules.Reject {
			t.Errorf("to %s: %s", out.Dst, got.final)
		}
	}
}

// A packet out of a tunnel with a source of no tunnel is dropped for each peer, and left
// alone out of an SA of which nothing is known.
func TestCrossedInATree(t *testing.T) {
	sites := neighbours()
	w := compileWorld(t, snapshotOf(sunHost(), sites...), firewall.Config{})
	for _, s := range sites {
		for reqid, want := range map[uint32]rules.Verb{s.Reqid: rules.Drop, 99: rules.Return} {
			p := tagged(from(reqid, "10.77.0.9", "10.2.0.10"))
			p.SecPath[0].Src = addr(s.Remote)
			if got := w.arrive(p, nil); got.final != want {
				t.Errorf("from %s, reqid %d: %s, want %s", s.Remote, reqid, got.final, want)
			}
		}
	}
}
