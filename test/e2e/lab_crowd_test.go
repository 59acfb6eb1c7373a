package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// spd counts a host's states, and its policies in, out and fwd, as ip words it.
func spd(t *testing.T, h *lab.Host) string {
	t.Helper()
	return strings.Join(strings.Fields(h.Run(t, "ip", "xfrm", "state", "count")+h.Run(t, "ip", "xfrm", "policy", "count")), " ")
}

// TestLabCrowd is that a flush takes every kind of tunnel that tests make, and leaves the further tunnels beside them.
func TestLabCrowd(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	t.Setenv("XFRMFW_CROWD", "25")
	n := lab.NewNetwork(t)
	const alone = "SAD count 50 SPD IN 25 OUT 25 FWD 25"
	up := func() {
		t.Helper()
		n.Up(t, lab.IPsec{Compress: true})
		n.Up(t, lab.IPsec{Inner: lab.IPv6, Reqid: 12, Transport: true})
		n.Up(t, lab.IPsec{Reqid: 13, IfID: 9, Upper: "proto tcp dport 80"})
		n.Up(t, lab.IPsec{Reqid: 14, Mark: lab.Mark{Value: 42, Mask: 0xff}, CBC: true, NATT: true})
		n.Sun.AddPolicies(t, lab.Policy{Dir: "out", Src: everything(lab.IPv4), Dst: prefix("10.9.0.0/16"), Block: true})
	}
	if got := spd(t, n.Sun); got != alone {
		t.Fatalf("sun has %s, want %s", got, alone)
	}
	up()
	if got := len(n.Sun.SAs(t)); got != 12 { // IPComp has two more, of IP in IP
		t.Errorf("%d states of the test's own, want 12", got)
	}
	n.Sun.FlushSAs(t)
	if got, want := spd(t, n.Sun), "SAD count 50 SPD IN 29 OUT 30 FWD 28"; got != want {
		t.Errorf("without its own states sun has %s, want %s", got, want)
	}
	n.Sun.FlushXFRM(t)
	if got := spd(t, n.Sun); got != alone {
		t.Errorf("after a flush sun has %s, want %s", got, alone)
	}
	n.Moon.FlushXFRM(t)
	up()
	n.Sun.FlushXFRM(t)
	if got := spd(t, n.Sun); got != alone {
		t.Errorf("after a second flush sun has %s, want %s", got, alone)
	}
}

// TestLabCrowdAsMadeByIP is that the further tunnels are equal to those that ip makes of
// the same words.
func TestLabCrowdAsMadeByIP(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	t.Setenv("XFRMFW_CROWD", "2")
	n := lab.NewNetwork(t)
	us := n.Sun.Outer(lab.IPv4)
	for i, remote := range []string{"10.1.8.0/24", "fd00:1:0:100::/64"} {
		there, peer, reqid := prefix(remote), addr(fmt.Sprintf("198.18.0.%d", i)), uint32(100000+i)
		here := n.Sun.InnerNet(lab.FamilyOf(there.Addr()))
		spi := 0x40000000 + 2*uint32(i)
		n.Moon.AddSAs(t, lab.SA{Src: peer, Dst: us, SPI: spi, Reqid: reqid}, lab.SA{Src: us, Dst: peer, SPI: spi + 1, Reqid: reqid})
		in := []lab.Template{{Src: peer, Dst: us, Reqid: reqid}}
		n.Moon.AddPolicies(t, lab.Policy{Dir: "in", Src: there, Dst: here, Priority: 5000, Templates: in},
			lab.Policy{Dir: "fwd", Src: there, Dst: here, Priority: 5000, Templates: in},
			lab.Policy{Dir: "out", Src: here, Dst: there, Priority: 5000, Templates: []lab.Template{{Src: us, Dst: peer, Reqid: reqid}}})
	}
	for _, object := range []string{"state", "policy"} {
		got, want := n.Sun.Run(t, "ip", "-d", "xfrm", object), n.Moon.Run(t, "ip", "-d", "xfrm", object)
		if d := difference(got, want); d != "" || len(got) < 400 {
			t.Errorf("%s: %s\n%s", object, d, got)
		}
	}
}

// A listener takes the errors of a failing test, in its place.
type listener struct {
	testing.TB
	heard *string
}

func (l listener) Errorf(format string, args ...any) { *l.heard += fmt.Sprintf(format, args...) }

// TestLabCrowdLost is that a test which flushes the further tunnels away fails.
func TestLabCrowdLost(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	lab.Require(t)
	t.Setenv("XFRMFW_CROWD", "3")
	var heard string
	t.Run("flushes", func(t *testing.T) {
		lab.NewNetwork(listener{t, &heard}).Sun.IP(t, "xfrm state flush")
	})
	if !strings.Contains(heard, "lost some of its 3 further tunnels") {
		t.Errorf("a test without its crowd says %q", heard)
	}
}
