package xfrm_test

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Decoding into a used snapshot takes no memory at all, whatever its size.
func TestDecodeDoesNotAllocate(t *testing.T) {
	var d xfrm.Decoder
	var s xfrm.Snapshot
	state := message(espState(), attribute(18, algName("rfc4106(gcm(aes))"), uint32(160), uint32(128), secret), attribute(31, uint32(1)))
	policy := message(inPolicy(), attribute(5, tunnelTemplate(), tunnelTemplate()))
	round := func() {
		s.Reset()
		for range 1000 {
			_ = d.Decode(&s, newSA, state)
			_ = d.Decode(&s, newPolicy, policy)
		}
	}
	if n := testing.AllocsPerRun(5, round); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	var d xfrm.Decoder
	var s xfrm.Snapshot
	state := message(espState(), attribute(18, algName("rfc4106(gcm(aes))"), uint32(160), uint32(128), secret), attribute(31, uint32(1)))
	policy := message(inPolicy(), attribute(5, tunnelTemplate()))
	b.ReportAllocs()
	for b.Loop() {
		s.Reset()
		for range 1000 {
			_ = d.Decode(&s, newSA, state)
			_ = d.Decode(&s, newPolicy, policy)
			_ = d.Decode(&s, newPolicy, policy)
			_ = d.Decode(&s, newPolicy, policy)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/4000, "ns/object")
}
