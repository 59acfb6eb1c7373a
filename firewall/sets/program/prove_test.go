package program

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/firewall/prove/evaluate"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// A packet is in the set with the outcome that the packet evaluator gives it, for random
// packets of random gateways.
func TestSetsAreThePacketEvaluator(t *testing.T) {
	const packets = 300
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 4242))
		in := fake.Gateway(r)
		f := decide.Facts(in)
		table := Table(&f, Options{})
		e := newEvaluator(table)
		maker := fake.NewPassages(rand.New(rand.NewPCG(seed, 7)), in, &f)
		walls := make(map[xfrm.Family]*evaluate.Firewall)
		fates := make(map[xfrm.Family]map[firewall.Way]evaluate.Fate)
		for _, family := range []xfrm.Family{xfrm.IPv4, xfrm.IPv6} {
			walls[family] = evaluate.NewTable(table, family, &f, space.Values{Names: fake.Links(in.Host)}, false)
			fates[family] = make(map[firewall.Way]evaluate.Fate)
			for _, way := range []firewall.Way{firewall.ToHost, firewall.Through, firewall.FromHost} {
				fates[family][way] = walls[family].Run(way, space.All)
			}
			if err := walls[family].Odd(); err != nil {
				t.Fatal(err)
			}
		}
		for range packets {
			p := fake.WithOneSA(maker.Next())
			w := walls[xfrm.FamilyOf(p.Received.Src)]
			fate := fates[xfrm.FamilyOf(p.Received.Src)][p.Way]
			want, verified, trail := e.walk(&f, p)
			if w.Has(fate.Dropped, p) != (want == dropped) || w.Has(fate.Rejected, p) != (want == refused) ||
				want != dropped && want != refused && w.Has(fate.Accepted, p) != verified {
				t.Fatalf("seed %d: dropped %v, rejected %v, verified %v, want outcome %d, verified %v: %+v\n%s", seed,
					w.Has(fate.Dropped, p), w.Has(fate.Rejected, p), w.Has(fate.Accepted, p), want, verified, p, strings.Join(trail, "\n"))
			}
		}
	}
}
