package prove

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// The packets of a set are told by few prefixes: everything but a network is one.
func TestRegions(t *testing.T) {
	s := sample.Snapshot(sample.Sun())
	facts := decide.Facts(firewall.Input{Host: s.Host, Config: firewall.Config{Marks: firewall.DefaultMarks()}})
	var values space.Values
	for _, text := range []string{"10.1.0.0/24", "10.2.0.0/24", "192.0.2.2/32", "172.16.0.0/12", "172.16.0.0/24", "0.0.0.0/1", "128.0.0.0/2"} {
		values.Prefix(netip.MustParsePrefix(text))
	}
	sp := space.New(xfrm.IPv4, &facts, values, true)
	in := func(f space.Classed, text string) space.Set { return sp.LiesIn(f, netip.MustParsePrefix(text)) }
	tcp := sp.Number(sp.Proto, uint64(xfrm.TCP))
	for _, tt := range []struct {
		name string
		set  space.Set
		want []string
	}{
		{"one pair", sp.And(in(sp.Src, "10.1.0.0/24"), in(sp.Dst, "10.2.0.0/24")), []string{"10.1.0.0/24 [] -> 10.2.0.0/24 []"}},
		{"all", space.All, []string{"0.0.0.0/0 [] -> 0.0.0.0/0 []"}},
		{"all but a network", sp.And(in(sp.Src, "10.1.0.0/24").Not(), in(sp.Dst, "192.0.2.2/32")), []string{"0.0.0.0/0 [10.1.0.0/24] -> 192.0.2.2/32 []"}},
		{"all but two", sp.Minus(in(sp.Dst, "10.1.0.0/24").Not(), in(sp.Dst, "172.16.0.0/12")), []string{"0.0.0.0/0 [] -> 0.0.0.0/0 [10.1.0.0/24 172.16.0.0/12]"}},
		{"two far apart", sp.Or(in(sp.Src, "10.1.0.0/24"), in(sp.Src, "172.16.0.0/24")), []string{"10.1.0.0/24 [] -> 0.0.0.0/0 []", "172.16.0.0/24 [] -> 0.0.0.0/0 []"}},
		{"of other protocols", sp.Or(in(sp.Src, "0.0.0.0/1"), sp.And(in(sp.Src, "128.0.0.0/2"), tcp)), []string{"0.0.0.0/1 [] -> 0.0.0.0/0 []", "128.0.0.0/2 [] -> 0.0.0.0/0 []"}},
	} {
		var got []string
		all := space.None
		regions(sp, tt.set, func(src, dst space.Network, of space.Set) bool {
			got = append(got, fmt.Sprint(src.Prefix, " ", src.But, " -> ", dst.Prefix, " ", dst.But))
			all = sp.Or(all, of)
			return true
		})
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: wanted -, got +:\n%s", tt.name, diff)
		}
		if all != tt.set {
			t.Errorf("%s: other packets are told", tt.name)
		}
	}
}
