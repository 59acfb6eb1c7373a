package firewall

import (
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

func TestNarrower(t *testing.T) {
	range5 := Service{xfrm.UDP, Ports{Lo: 5000, Hi: 5010}}
	for _, test := range []struct{ a, b, want []Service }{
		{nil, nil, nil},
		{nil, []Service{range5}, []Service{range5}},
		{[]Service{}, nil, []Service{}},
		{[]Service{range5}, []Service{{xfrm.UDP, Ports{Lo: 5008, Hi: 6000}}}, []Service{{xfrm.UDP, Ports{Lo: 5008, Hi: 5010}}}},
		{[]Service{range5}, []Service{{Proto: xfrm.UDP}}, []Service{range5}},
		{[]Service{range5}, []Service{{xfrm.TCP, Ports{Lo: 5000, Hi: 5010}}}, []Service{}},
		{[]Service{{Proto: xfrm.ICMP}, range5}, []Service{{Proto: xfrm.ICMP}}, []Service{{Proto: xfrm.ICMP}}},
	} {
		for _, pair := range [][2][]Service{{test.a, test.b}, {test.b, test.a}} {
			got := commonServices(pair[0], pair[1])
			if !slices.Equal(got, test.want) || (got == nil) != (test.want == nil) {
				t.Errorf("what %v and %v allow is %v, want %v", pair[0], pair[1], got, test.want)
			}
		}
	}
	a := TunnelConfig{Name: "a", MSS: MSS{Size: 1400}, KeepNAT: true}
	b := TunnelConfig{MSS: MSS{Size: 1300}, KeepNAT: true}
	if got := narrower(a, b); got.MSS.Size != 1300 || !got.KeepNAT {
		t.Errorf("narrower: %+v", got)
	}
	if got := narrower(a, TunnelConfig{MSS: MSS{Auto: true}}); !got.MSS.Auto || got.KeepNAT {
		t.Errorf("narrower: %+v", got)
	}
}
