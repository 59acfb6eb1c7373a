package live

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

func TestNATSources(t *testing.T) {
	save, err := Parse([]byte(`*nat
:POSTROUTING ACCEPT [0:0]
:OTHER - [0:0]
[0:0] -A POSTROUTING -s 192.168.7.0/24 -o eth0 -j SNAT --to-source 10.2.0.9
[0:0] -A POSTROUTING -j SNAT --to-source 10.3.0.8-10.3.0.11:1000-2000 --random
[0:0] -A OTHER -m comment --comment "--to-source 1.2.3.4" -j MASQUERADE
[0:0] -A OTHER -d 10.9.0.0/24 -j NETMAP --to 10.8.0.0/24
[0:0] -A OTHER -j SNAT --to-source nonsense
COMMIT
`))
	if err != nil {
		t.Fatal(err)
	}
	var want []netip.Prefix
	for _, p := range []string{"10.2.0.9/32", "10.3.0.8/30", "10.8.0.0/24"} {
		want = append(want, netip.MustParsePrefix(p))
	}
	if got := NATSources(map[xfrm.Family]Tables{xfrm.IPv4: save}); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
