package e2e

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestApplyAgain is that an apply with nothing to do runs no iptables-restore and touches no counter, and that of several
// applies at once one does the work.
func TestApplyAgain(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	n.Up(t, lab.IPsec{})
	n.Up(t, lab.IPsec{Inner: lab.IPv6, Reqid: 12})
	logs := newStandIn(t, map[string]string{"-restore": logsRestores})
	apply := func(want string) []string {
		t.Helper()
		if r := logs.xfrmfw(t, n.Sun, "apply"); r.Code != 0 || !strings.HasPrefix(r.Stdout, want) {
			t.Fatalf("apply says %+v, want %q", r, want)
		}
		return logged(t, n.Sun, "restores")
	}
	first := apply("applied")
	if len(first) < 4 {
		t.Errorf("the first apply ran iptables-restore %d times, want one a table and family", len(first)/2)
	}
	n.Alice.MustPing(t, n.Bob.Inner(lab.IPv4), 2)
	before := n.Sun.Counter(t, lab.IPv4, "mangle", "/verified/")
	if again := apply("no change"); len(again) != 0 {
		t.Errorf("the second apply ran iptables-restore %d times", len(again)/2)
	}
	if after := n.Sun.Counter(t, lab.IPv4, "mangle", "/verified/"); after < before || after == 0 {
		t.Errorf("packets verified: %d before an apply, %d after it", before, after)
	}
	want := saves(t, n.Sun)

	n.Sun.MustXfrmfw(t, "clear")
	var running []*lab.Process
	for range 3 {
		running = append(running, logs.start(t, n.Sun, "apply"))
	}
	for _, p := range running {
		if code := p.Wait(t, 3*lab.Patience); code != 0 {
			t.Errorf("one of three applies at once: exit status %d\n%s", code, p.Output())
		}
	}
	together := logged(t, n.Sun, "restores")
	if got, want := strings.Join(together, " "), strings.Join(first, " "); got != want {
		t.Errorf("iptables-restore ran as %s, want as for one apply: %s", got, want)
	}
	inSync(t, n.Sun)
	if got := saves(t, n.Sun); got != want {
		t.Errorf("the rules of three applies at once differ from those of one:\n%s\nwant\n%s", got, want)
	}
}

var received = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

// TestRekey is that rules follow the tunnel and not its states: new SPIs need no change, and no packet is lost.
func TestRekey(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	f := lab.IPv4
	tunnel := lab.IPsec{}
	closed(t, n.Gateways()...)
	n.Up(t, tunnel)
	for _, g := range n.Gateways() {
		g.MustXfrmfw(t, "apply")
	}
	n.Alice.MustPing(t, n.Bob.Inner(f), 1)
	before := saves(t, n.Sun)
	wire := n.Wire(t)
	pings := n.Alice.Start(t, nil, "ping", "-n", "-i", "0.1", "-W", "5", "-w", "600", n.Bob.Inner(f).String())
	for generation := range 2 {
		old, fresh := n.Rekeyed(tunnel, generation), n.Rekeyed(tunnel, generation+1)
		// As IKE daemons do: none sends with a state that its peer has not got.
		n.Moon.AddSAs(t, fresh[0])
		n.Sun.AddSAs(t, fresh[1])
		n.Moon.AddSAs(t, fresh[1])
		n.Sun.AddSAs(t, fresh[0])
		for _, sa := range fresh {
			lab.Eventually(t, lab.Patience, func() error {
				if wire.Count(t, func(f lab.Frame) bool {
					return lab.IsESP(f) && binary.BigEndian.Uint32(f.Payload) == sa.SPI
				}) < 2 {
					return fmt.Errorf("too few packets with the new SPI %#x", sa.SPI)
				}
				return nil
			})
		}
		for _, g := range n.Gateways() {
			g.DeleteSAs(t, old...)
		}
		inSync(t, n.Sun)
	}
	lab.Eventually(t, lab.Patience, func() error { // some more with nothing but the last states
		if got := strings.Count(pings.Output(), "icmp_seq="); got < 20 {
			return fmt.Errorf("%d answers", got)
		}
		return nil
	})
	pings.Signal(t, 2)
	pings.Wait(t, lab.Patience)
	found := received.FindStringSubmatch(pings.Output())
	if found == nil || found[1] != found[2] {
		t.Errorf("pings were lost during the rekeying:\n%s", pings.Output())
	}
	if out := n.Sun.MustXfrmfw(t, "apply"); !strings.HasPrefix(out, "no change") {
		t.Errorf("an apply after the rekeying: %s", out)
	}
	if after := saves(t, n.Sun); after != before {
		t.Errorf("the rules have changed:\n%s\nbefore\n%s", after, before)
	}
	r := status(t, n.Sun)
	if len(r.Tunnels) != 1 || r.Tunnels[0].PacketsBy.Verified < 20 || r.Tunnels[0].PacketsBy.Unconfirmed != 0 || len(r.Tunnels[0].SAs) != 2 {
		t.Errorf("status shows %+v, want one tunnel with two states and all packets verified", r.Tunnels)
	}

	// A new reqid is another tunnel for the kernel's policy match, so nothing of it may pass before an apply; and a
	// tunnel that went comes back.
	next := lab.IPsec{Reqid: 12}
	for _, g := range n.Gateways() {
		g.FlushXFRM(t)
	}
	n.Up(t, next)
	outOfSync(t, n.Sun)
	n.Alice.MustNotPing(t, n.Bob.Inner(f), 1)
	applyBoth := func() {
		t.Helper()
		for _, g := range n.Gateways() {
			g.MustXfrmfw(t, "apply")
		}
		inSync(t, n.Sun)
	}
	applyBoth()
	n.Alice.MustPing(t, n.Bob.Inner(f), 2)
	id := status(t, n.Sun).Tunnels[0].ID
	if id != r.Tunnels[0].ID {
		t.Errorf("the tunnel was %s and is now %s: status is to know it again", r.Tunnels[0].ID, id)
	}
	n.Down(t, next)
	applyBoth()
	n.Alice.MustNotPing(t, n.Bob.Inner(f), 1)
	for _, tunnel := range status(t, n.Sun).Tunnels {
		if tunnel.State == "up" {
			t.Errorf("status shows %+v after the tunnel went", tunnel)
		}
	}
	n.Up(t, next)
	applyBoth()
	n.Alice.MustPing(t, n.Bob.Inner(f), 2)
}
