package daemon

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// Pairs that come while conntrack is read are forgotten by one more reading, and nothing is
// lost at the end. An error is logged once.
func TestFlowsOfSeveralTurns(t *testing.T) {
	began, goOn := make(chan []kernel.Pair, 9), make(chan error)
	f := flows{run: func(_ context.Context, pairs []kernel.Pair) error {
		began <- pairs
		return <-goOn
	}}
	var said strings.Builder
	pair := func(n byte) []kernel.Pair {
		return []kernel.Pair{{Remote: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, n}), 16)}}
	}
	forget := func(pairs []kernel.Pair) { f.forget(context.Background(), pairs, logger{w: &said}) }
	forget(nil)
	forget(pair(1))
	if diff := cmp.Diff(pair(1), <-began, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	forget(pair(2))
	forget(nil)
	forget(pair(3))
	goOn <- errors.New("not read")
	if got := <-began; len(got) != 2 || got[0] != pair(2)[0] || got[1] != pair(3)[0] {
		t.Errorf("the second reading is for %v", got)
	}
	goOn <- errors.New("not read")
	f.wait()
	forget(pair(4))
	<-began
	goOn <- nil
	f.wait()
	if len(began) > 0 || strings.Count(said.String(), "not read") != 1 {
		t.Errorf("%d more readings, and the log has %q", len(began), said.String())
	}
}
