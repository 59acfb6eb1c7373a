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
	f, e := plainGateway(t)
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
}

// TestMappedIsNotOwn: a packet of the LAN's that source NAT maps to this host's own address leaves in clear no more than
// another does, though it is of IKE or ESP, which this host's own may.
func TestMappedIsNotOwn(t *testing.T) {
	f, e := plainGateway(t)
	for _, proto := range []xfrm.Proto{xfrm.UDP, xfrm.ESP, xfrm.AH, xfrm.TCP} {
		ends := firewall.Ends{Src: netip.MustParseAddr("10.2.0.5"), Dst: netip.MustParseAddr("10.1.0.10")}
		if proto == xfrm.UDP || proto == xfrm.TCP {
			ends.SPort, ends.DPort = 500, 500
		}
		p := firewall.Passage{Way: firewall.Through, In: "eth1", Out: "eth0", Proto: proto, Received: ends, AfterDNAT: ends, Sent: ends}
		p.Sent.Src = netip.MustParseAddr("192.0.2.2")
		p.Flow = firewall.Flow{Proto: proto, SNAT: true, OrigSrc: ends.Src, OrigDst: ends.Dst, ReplySrc: ends.Dst, ReplyDst: p.Sent.Src, OrigSPort: ends.SPort, OrigDPort: ends.DPort}
		if got, _, trail := e.walk(&f, p); got != dropped {
			t.Errorf("%s: outcome %v\n%s", proto, got, strings.Join(trail, "\n"))
		}
		answer := p // of a server of the LAN's that is published at this host's address
		answer.Flow = firewall.Flow{Proto: proto, Established: true, Reply: true, DNAT: true, OrigSrc: ends.Dst, OrigDst: p.Sent.Src, ReplySrc: ends.Src, ReplyDst: ends.Dst, OrigSPort: ends.DPort, OrigDPort: ends.SPort}
		if got, _, trail := e.walk(&f, answer); got != dropped {
			t.Errorf("%s, an answer: outcome %v\n%s", proto, got, strings.Join(trail, "\n"))
		}
		own := p
		own.Way, own.In, own.SrcLocal, own.Flow.SNAT = firewall.FromHost, "", true, false
		own.Received.Src, own.AfterDNAT, own.Flow.OrigSrc = p.Sent.Src, p.Sent, p.Sent.Src
		if got, _, trail := e.walk(&f, own); got == dropped && proto != xfrm.TCP {
			t.Errorf("%s of this host: outcome %v\n%s", proto, got, strings.Join(trail, "\n"))
		}
	}
}

// plainGateway is one with an uplink, a LAN and a tunnel, and its table.
func plainGateway(t *testing.T) (firewall.Facts, *evaluator) {
	t.Helper()
	for _, fault := range fake.Faults() {
		if fault.Name == "a port of IKE's: error about a flow from it" {
			f := decide.Facts(fault.Input)
			return f, newEvaluator(Table(&f, Options{}))
		}
	}
	t.Fatal("no gateway of that name")
	return firewall.Facts{}, nil
}
