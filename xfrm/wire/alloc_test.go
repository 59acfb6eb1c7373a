package wire_test

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

// Besides the result's slices, only chunks of templates are allocated.
func TestDecodeAllocations(t *testing.T) {
	var d wire.Decoder
	s := xfrm.Snapshot{States: make([]xfrm.State, 0, 10000), Policies: make([]xfrm.Policy, 0, 10000)}
	state := message(espState(), attribute(18, algName("rfc4106(gcm(aes))"), uint32(160), uint32(128), secret), attribute(31, uint32(1)))
	policy := message(inPolicy(), attribute(5, tunnelTemplate(), tunnelTemplate()))
	n := testing.AllocsPerRun(1, func() {
		s.States, s.Policies = s.States[:0], s.Policies[:0]
		for range 10000 {
			_ = d.Decode(&s, newSA, state)
			_ = d.Decode(&s, newPolicy, policy)
		}
	})
	if n > 10 {
		t.Errorf("got %v allocations for 20,000 objects, want 10 at most", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	var d wire.Decoder
	var s xfrm.Snapshot
	state := message(espState(), attribute(18, algName("rfc4106(gcm(aes))"), uint32(160), uint32(128), secret), attribute(31, uint32(1)))
	policy := message(inPolicy(), attribute(5, tunnelTemplate()))
	b.ReportAllocs()
	for b.Loop() {
		s.States, s.Policies = s.States[:0], s.Policies[:0]
		for range 1000 {
			_ = d.Decode(&s, newSA, state)
			_ = d.Decode(&s, newPolicy, policy)
			_ = d.Decode(&s, newPolicy, policy)
			_ = d.Decode(&s, newPolicy, policy)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/4000, "ns/object")
}
