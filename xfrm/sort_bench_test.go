package xfrm_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// BenchmarkSort orders 10,000 states and 30,000 policies that come newest first
// and with the directions mixed, as the kernel dumps them.
func BenchmarkSort(b *testing.B) {
	var dump, s xfrm.Snapshot
	for i := range uint32(10000) {
		x := sample.State()
		x.SPI = 0x10000 + i
		x.Dst = netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)})
		dump.States = append(dump.States, x)
		for dir := range xfrm.Dir(3) {
			p := sample.Policy()
			p.Dir, p.Index, p.Priority = dir, i*8+uint32(dir), 1000+i%5
			dump.Policies = append(dump.Policies, p)
		}
	}
	slices.Reverse(dump.States)
	slices.Reverse(dump.Policies)
	for b.Loop() {
		s.States = append(s.States[:0], dump.States...)
		s.Policies = append(s.Policies[:0], dump.Policies...)
		s.Sort()
	}
}
