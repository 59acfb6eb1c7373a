package ike

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// TestGateways takes a tunnel between two gateways through all that becomes of one: rekeys of both SAs every few seconds
// under traffic, another outer address, a peer that crashes, and one's own crash. The hook alone has to do; only during
// the rekeys a daemon runs on moon, as it may have nothing to do.
func TestGateways(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	n := lab.NewNetwork(t)
	f := lab.IPv4
	moon, sun := n.Moon, n.Sun
	closed(t, moon, sun)
	quick := []string{"retransmit_timeout = 2", "retransmit_tries = 3", "retransmit_base = 1.5"}
	start := func(g *lab.Host) *lab.Charon {
		// The addresses are left open: one of them will change.
		return g.StartCharon(t, strings.ReplaceAll(gatewayConf(n, g, side{connection: []string{"dpd_delay = 2"}}, updown(t)),
			"remote_addrs = "+moon.Outer(f).String(), "remote_addrs = %any"), quick...)
	}
	sunIKE, moonIKE := start(sun), start(moon)
	wire := n.Wire(t)
	n.Alice.MustNotPing(t, n.Bob.Inner(f), 1)
	moonIKE.Swanctl(t, "--initiate", "--timeout", "60", "--child", "sun-net")
	eventuallyPings(t, n.Alice, n.Bob.Inner(f))
	lab.InSync(t, moon, sun)

	// knows wants status on sun to know moon.
	knows := func(when string) tunnel {
		t.Helper()
		up := status(t, sun).up()
		if len(up) != 1 || up[0].PeerID != "moon.lab" || up[0].Connection != "moon-net" {
			t.Fatalf("%s: status on sun shows %+v, want moon.lab by moon-net", when, up)
		}
		return up[0]
	}
	first := knows("when it came up")

	whole := t // a daemon that is started again in a part of the test goes on in the next
	t.Run("rekey", func(t *testing.T) {
		before := status(t, sun).Counts.Unknown // packets that came before the first apply
		daemon := startDaemon(t, moon)
		said, counted := daemon.Output(), daemon.mustCounts(t)
		spis := make(map[string]bool)
		goon := duration(20 * time.Second)
		ping := n.Alice.Start(t, nil, "ip", "netns", "exec", n.Alice.Netns(), "ping", "-n", "-i", "0.1", "-W", "5",
			"-w", fmt.Sprint(int(goon.Seconds())), n.Bob.Inner(f).String())
		for i, end := 0, time.Now().Add(goon); i < 8 || time.Now().Before(end); i++ {
			// Not by lifetimes: a rekey of the child that comes while the IKE SA is rekeyed may be lost, and is not tried again.
			switch i % 4 {
			case 0:
				moonIKE.Swanctl(t, "--rekey", "--child", "sun-net")
			case 2:
				moonIKE.Swanctl(t, "--rekey", "--ike", "site")
			}
			time.Sleep(time.Second)
			for _, line := range strings.Split(sun.Run(t, "ip", "xfrm", "state"), "\n") {
				if fields := strings.Fields(line); len(fields) > 3 && fields[0] == "proto" {
					spis[fields[3]] = true
				}
			}
		}
		ping.Wait(t, 2*lab.Patience)
		output := ping.Output()
		summary := output[strings.Index(output, " packets transmitted")-6:]
		t.Logf("%d SPIs seen on sun in %v: %s", len(spis), goon, strings.TrimSpace(strings.Join(strings.Fields(summary), " ")))
		if len(spis) < 6 {
			t.Errorf("%d SPIs: it was not rekeyed", len(spis))
		}
		var sent, received int
		for _, line := range strings.Split(output, "\n") {
			if _, err := fmt.Sscanf(line, "%d packets transmitted, %d received", &sent, &received); err == nil {
				break
			}
		}
		if sent == 0 || received < sent*98/100 {
			t.Errorf("%d of %d pings answered during rekeys", received, sent)
		}
		if ikes := sunIKE.Swanctl(t, "--list-sas"); strings.Contains(ikes, "site: #1,") {
			t.Errorf("the IKE SA was not rekeyed:\n%s", ikes)
		}
		if again := knows("after rekeys"); again.ID != first.ID || again.Reqid != first.Reqid {
			t.Errorf("it is %+v after rekeys, and was %+v", again, first)
		}
		r := status(t, sun)
		if r.Drops["spoof"].Packets+r.Drops["crossed"].Packets+r.Drops["leak"].Packets != 0 || r.Counts.Unknown != before || len(r.Differences) > 0 {
			t.Errorf("status after rekeys: drops %+v, unknown %d, differences %q", r.Drops, r.Counts.Unknown-before, r.Differences)
		}
		noCleartext(t, wire, innerNets(n))
		since := daemon.mustCounts(t)
		for name := range since {
			since[name] -= counted[name]
		}
		said = strings.TrimPrefix(daemon.Output(), said)
		looks, restores := since["xfrmfw_reconciles_total"], strings.Count(said, "applied: ")
		t.Logf("the daemon on moon was told of %v changes: %v looks, %d restores", since["xfrmfw_events_total"], looks, restores)
		if since["xfrmfw_events_total"] < 20 || since["xfrmfw_events_lost_total"] != 0 {
			t.Errorf("it was told of %v changes, and %v times some were lost", since["xfrmfw_events_total"], since["xfrmfw_events_lost_total"])
		}
		if looks != 0 || restores != 0 || said != "" {
			t.Errorf("rekeys cost %v looks and %d restores; it said %q", looks, restores, said)
		}
	})

	t.Run("mobike", func(t *testing.T) {
		moon.Sysctl(t, "net/ipv4/conf/all/promote_secondaries=1", "net/ipv4/conf/wan0/promote_secondaries=1")
		moon.IP(t, "addr add 192.0.2.11/24 dev wan0", "addr del 192.0.2.1/24 dev wan0", "route replace 10.2.0.0/24 via 192.0.2.2")
		lab.Eventually(t, 6*lab.Patience, func() error {
			if states := sun.Run(t, "ip", "xfrm", "state"); !strings.Contains(states, "192.0.2.11") {
				return fmt.Errorf("sun's states did not follow:\n%s", states)
			}
			return nil
		})
		eventuallyPings(t, n.Alice, n.Bob.Inner(f))
		eventuallyPings(t, n.Bob, n.Alice.Inner(f))
		// charon calls no updown script for that: the rules need none.
		sun.MustXfrmfw(t, "apply")
		if moved := knows("after a move"); moved.Remote != "192.0.2.11" {
			t.Errorf("it is at %s", moved.Remote)
		}
		n.Alice.MustPing(t, n.Bob.Inner(f), 3)
		noCleartext(t, wire, innerNets(n))
	})

	t.Run("the peer crashes", func(t *testing.T) {
		sunIKE.Kill(t)
		// Moon finds out (DPD), and takes the tunnel down: packets that are still sent to
		// bob are refused.
		lab.Eventually(t, 6*lab.Patience, func() error {
			if got := moon.Run(t, "ip", "xfrm", "state"); strings.Contains(got, "proto esp") {
				return fmt.Errorf("moon still has states:\n%s", got)
			}
			return nil
		})
		n.Alice.MustNotPing(t, n.Bob.Inner(f), 3)
		n.Bob.MustNotPing(t, n.Alice.Inner(f), 1)
		lab.InSync(t, moon)
		sunIKE.Restart(whole)
		moonIKE.Swanctl(t, "--initiate", "--timeout", "60", "--child", "sun-net")
		eventuallyPings(t, n.Alice, n.Bob.Inner(f))
		lab.InSync(t, moon, sun)
		knows("after sun's crash")
		noCleartext(t, wire, innerNets(n))
	})

	t.Run("one's own crash", func(t *testing.T) {
		moonIKE.Kill(t)
		moonIKE.Restart(whole)
		moonIKE.Swanctl(t, "--initiate", "--timeout", "60", "--child", "sun-net")
		eventuallyPings(t, n.Alice, n.Bob.Inner(f))
		lab.InSync(t, moon, sun)
		knows("after moon's crash")
		// Both crash, and the kernels lose all: a reboot, but for the memory.
		moonIKE.Kill(t)
		sunIKE.Kill(t)
		for _, g := range n.Gateways() {
			g.FlushXFRM(t)
		}
		n.Alice.MustNotPing(t, n.Bob.Inner(f), 2)
		n.Bob.MustNotPing(t, n.Alice.Inner(f), 2)
		noCleartext(t, wire, innerNets(n))
	})
}

// duration is the time for which a test that repeats goes on: XFRMFW_SOAK, or else short.
func duration(short time.Duration) time.Duration {
	if long, err := time.ParseDuration(os.Getenv("XFRMFW_SOAK")); err == nil {
		return long
	}
	return short
}
