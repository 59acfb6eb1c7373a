package decide

import (
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

func TestNarrower(t *testing.T) {
	range5 := firewall.Service{Proto: xfrm.UDP, Ports: firewall.Ports{Lo: 5000, Hi: 5010}}
	for _, test := range []struct{ a, b, want []firewall.Service }{
		{nil, nil, nil},
		{nil, []firewall.Service{range5}, []firewall.Service{range5}},
		{[]firewall.Service{}, nil, []firewall.Service{}},
		{[]firewall.Service{range5}, []firewall.Service{{Proto: xfrm.UDP, Ports: firewall.Ports{Lo: 5008, Hi: 6000}}}, []firewall.Service{{Proto: xfrm.UDP, Ports: firewall.Ports{Lo: 5008, Hi: 5010}}}},
		{[]firewall.Service{range5}, []firewall.Service{{Proto: xfrm.UDP}}, []firewall.Service{range5}},
		{[]firewall.Service{range5}, []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Ports{Lo: 5000, Hi: 5010}}}, []firewall.Service{}},
		{[]firewall.Service{{Proto: xfrm.ICMP}, range5}, []firewall.Service{{Proto: xfrm.ICMP}}, []firewall.Service{{Proto: xfrm.ICMP}}},
	} {
		for _, pair := range [][2][]firewall.Service{{test.a, test.b}, {test.b, test.a}} {
			got := commonServices(pair[0], pair[1])
			if !slices.Equal(got, test.want) || (got == nil) != (test.want == nil) {
				t.Errorf("what %v and %v allow is %v, want %v", pair[0], pair[1], got, test.want)
			}
		}
	}
	a := firewall.TunnelConfig{Name: "a", MSS: firewall.MSS{Size: 1400}, KeepNAT: true}
	b := firewall.TunnelConfig{MSS: firewall.MSS{Size: 1300}, KeepNAT: true}
	if got := narrower(a, b); got.MSS.Size != 1300 || !got.KeepNAT {
		t.Errorf("narrower: %+v", got)
	}
	if got := narrower(a, firewall.TunnelConfig{MSS: firewall.MSS{Auto: true}}); !got.MSS.Auto || got.KeepNAT {
		t.Errorf("narrower: %+v", got)
	}
}
