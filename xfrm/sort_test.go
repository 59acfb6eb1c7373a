package xfrm_test

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

func TestSortPolicies(t *testing.T) {
	v4 := sample.Policy().Selector
	v6 := xfrm.Selector{Family: xfrm.IPv6, Src: netip.MustParsePrefix("::/0"), Dst: netip.MustParsePrefix("::/0")}
	other := v4
	other.Src = netip.MustParsePrefix("10.9.0.0/24")
	want := []xfrm.Policy{
		{Dir: xfrm.In, Selector: v4, Priority: 1, Index: 80},
		{Dir: xfrm.In, Selector: v4, Priority: 2, Index: 8},
		{Dir: xfrm.In, Selector: v4, Priority: 2, Index: 16},
		{Dir: xfrm.In, Selector: v4, Priority: 2, Index: 16, IfID: 1},
		{Dir: xfrm.In, Selector: v4, Priority: 2, Index: 16, IfID: 1, Type: xfrm.Sub},
		{Dir: xfrm.In, Selector: other, Priority: 2, Index: 16, IfID: 1, Type: xfrm.Sub},
		{Dir: xfrm.In, Selector: v6, Priority: 0, Index: 1},
		{Dir: xfrm.Out, Selector: v4, Priority: 0, Index: 0},
		{Dir: xfrm.Fwd, Selector: v4, Priority: 1<<32 - 1, Index: 0},
		{Dir: xfrm.SocketIn, Selector: v4, Priority: 0, Index: 0},
	}
	checkSorted(t, want, func(s *xfrm.Snapshot) *[]xfrm.Policy { return &s.Policies }, func(a, b xfrm.Policy) bool {
		return a.Dir == b.Dir && a.Selector == b.Selector && a.Priority == b.Priority && a.Index == b.Index &&
			a.IfID == b.IfID && a.Type == b.Type
	})
}

func TestSortStates(t *testing.T) {
	a := sample.State()
	want := []xfrm.State{
		sample.With(a, func(x *xfrm.State) { x.Dst = netip.MustParseAddr("1.2.3.4"); x.Proto = xfrm.AH }),
		a,
		sample.With(a, func(x *xfrm.State) { x.CPU = 1 }),
		sample.With(a, func(x *xfrm.State) { x.CPU = 2 }),
		sample.With(a, func(x *xfrm.State) { x.Mark = xfrm.Mark{Value: 1, Mask: 1} }),
		sample.With(a, func(x *xfrm.State) { x.Src = netip.MustParseAddr("203.0.113.1") }),
		sample.With(a, func(x *xfrm.State) { x.SPI++ }),
		sample.With(a, func(x *xfrm.State) { x.Proto, x.SPI = xfrm.AH, 0 }),
		sample.With(a, func(x *xfrm.State) { x.Family, x.Dst = xfrm.IPv6, netip.MustParseAddr("2001:db8::1") }),
		sample.With(a, func(x *xfrm.State) { x.Family, x.Dst = xfrm.IPv6, netip.MustParseAddr("fd00::1") }),
	}
	checkSorted(t, want, func(s *xfrm.Snapshot) *[]xfrm.State { return &s.States }, func(a, b xfrm.State) bool { return a == b })
}

// checkSorted shuffles want many times and expects Sort to restore it.
func checkSorted[T any](t *testing.T, want []T, list func(*xfrm.Snapshot) *[]T, equal func(a, b T) bool) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var s xfrm.Snapshot
		got := slices.Clone(want)
		random.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		*list(&s) = got
		s.Sort()
		if !slices.EqualFunc(got, want, equal) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	}
}

func TestSortGivesEqualBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var first []byte
	for range 20 {
		s := fullSnapshot()
		shuffle(random, s.States)
		shuffle(random, s.Policies)
		shuffle(random, s.Skipped)
		shuffle(random, s.Host.Links)
		shuffle(random, s.Host.Addresses)
		shuffle(random, s.Host.Routes)
		s.Sort()
		var b bytes.Buffer
		if err := s.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b.Bytes()
		}
		if !bytes.Equal(first, b.Bytes()) {
			t.Fatalf("the order of the input shows:\n%s\nand\n%s", first, b.Bytes())
		}
	}
}

func shuffle[T any](random *rand.Rand, s []T) {
	random.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}
