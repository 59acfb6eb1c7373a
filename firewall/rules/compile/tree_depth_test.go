package compile

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// A peer that chooses prefixes so that many levels come above a branch must not make
// the tree deeper than the kernel takes: no rule could be loaded.
func TestTreeStaysShallow(t *testing.T) {
	under := func(bits int, rest uint32) string {
		// The first bits are 0, the next one is 1: apart from all others there.
		a := uint32(0x20000000)>>bits | rest
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}), 32).String()
	}
	var deep []sample.Site
	n := 1
	add := func(sites []sample.Site, remote string) []sample.Site {
		n++
		return append(sites, peer(n, fmt.Sprintf("203.0.%d.%d", n/250, n%250+1), [2]string{sunLAN, remote}))
	}
	for bits := 6; bits < 16; bits++ {
		deep = add(deep, under(bits, 0))
	}
	for i := range 200 {
		deep = add(deep, netip.PrefixFrom(netip.AddrFrom4([4]byte{0, 0, 7, byte(i)}), 32).String())
	}
	all := deep
	for bits := range 6 {
		all = add(all, under(bits, 0x77))
	}
	var compiler Compiler
	for _, sites := range [][]sample.Site{deep, all, deep} {
		s := snapshotOf(sunHost(), sites...)
		in := firewall.Input{Set: xfrm.Tunnels(s), Host: s.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()}}
		kept := compiler.Compile(in)
		for _, rs := range kept.Rulesets {
			if err := rules.Validate(rs); err != nil {
				t.Errorf("with %d tunnels: %v", len(sites), err)
			}
		}
		if !reflect.DeepEqual(kept, Compile(in)) {
			t.Errorf("with %d tunnels: not what is made afresh", len(sites))
		}
	}
}
