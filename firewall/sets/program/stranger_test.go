package program

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/internal/fake"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// TestStrangerBehindNAT: on a plain gateway a flow that comes in by the uplink and that source NAT maps into the LAN's
// network is dropped, and one that it maps to this host's own address of the uplink is left, because hosts behind the
// uplink may be the LAN's there.
func TestStrangerBehindNAT(t *testing.T) {
	for _, fault := range fake.Faults() {
		if fault.Name != "a port of IKE's: error about a flow from it" {
			continue
		}
		f := decide.Facts(fault.Input)
		e := newEvaluator(Table(&f, Options{}))
		for to, want := range map[string]bool{"10.2.0.1": true, "192.0.2.2": false} {
			ends := firewall.Ends{Src: netip.MustParseAddr("198.51.100.66"), Dst: netip.MustParseAddr("10.1.0.10"), SPort: 1024, DPort: 80}
			p := firewall.Passage{Way: firewall.Through, In: "eth0", Out: "eth0", Proto: xfrm.TCP, Received: ends, AfterDNAT: ends, Sent: ends}
			p.Sent.Src = netip.MustParseAddr(to)
			p.Flow = firewall.Flow{Proto: xfrm.TCP, SNAT: true, OrigSrc: ends.Src, OrigDst: ends.Dst, ReplySrc: ends.Dst, ReplyDst: p.Sent.Src, OrigSPort: 1024, OrigDPort: 80}
			p.AheadSent = []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: f.Claims[0].Out.Reqid, Src: netip.MustParseAddr("192.0.2.2"), Dst: netip.MustParseAddr("192.0.2.1")}}
			got, _, trail := e.walk(&f, p)
			stranger := got == dropped && strings.Contains(strings.Join(trail, "\n"), "a stranger, behind NAT")
			if stranger != want {
				t.Errorf("mapped to %s: outcome %v\n%s", to, got, strings.Join(trail, "\n"))
			}
		}
		return
	}
	t.Fatal("no gateway of that name")
}
