package ike

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// Addresses beyond the WAN's network: moon's, which speaks IPsec, and mallory's, which does not.
var (
	offMoon    = netip.MustParseAddr("198.51.100.1")
	offMallory = netip.MustParseAddr("198.51.100.66")
)

// startOpportunistic starts pluto with the group private-or-clear for everything, from each address of its own. A host that
// initiates has traps.
func startOpportunistic(t *testing.T, g *lab.Host, initiates bool, own ...netip.Addr) libreswan {
	t.Helper()
	l := newLibreswan(t, g)
	auto := "add"
	if initiates {
		auto = "ondemand"
	}
	if err := os.Mkdir(l.file("policies"), 0o700); err != nil {
		t.Fatal(err)
	}
	var config strings.Builder
	fmt.Fprintf(&config, "config setup\n\tnssdir=%s\n\tipsecdir=%s\n", l.dir, l.dir)
	var names []string
	for i, address := range own {
		name := fmt.Sprintf("private-or-clear-%d", i)
		names = append(names, name)
		fmt.Fprintf(&config, `conn %s
	type=tunnel
	ikev2=insist
	authby=null
	leftid=%%null
	rightid=%%null
	left=%s
	right=%%opportunisticgroup
	negotiationshunt=passthrough
	failureshunt=passthrough
	keyingtries=1
	retransmit-timeout=60s
	ike=aes128-sha2_256-dh19
	esp=aes_gcm128
	auto=%s
`, name, address, auto)
		if err := os.WriteFile(l.file("policies/"+name), []byte("0.0.0.0/0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	daemon := l.start(t, config.String(), "")
	daemon.WaitOutput(t, "loading secrets from")
	g.Run(t, "ipsec", append([]string{"addconn", "--config", l.file("ipsec.conf"), "--ctlsocket", l.file("pluto.ctl")}, names...)...)
	l.whack(t, "--listen")
	for _, name := range names {
		daemon.WaitOutput(t, l.file("policies/"+name))
		if initiates {
			l.whack(t, "--route", "--name", name)
		}
	}
	return l
}

// TestLibreswanOpportunistic: with the group private-or-clear for everything sun has traps to 0/0. A host that speaks IPsec is
// reached through it and one that does not in clear, on the link and beyond it, and nothing of either is cut.
func TestLibreswanOpportunistic(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	n := lab.NewNetwork(t)
	f := lab.IPv4
	sun, moon, mallory := n.Sun.Outer(f), n.Moon.Outer(f), n.Mallory.Outer(f)
	n.Moon.IP(t, "link add off0 type dummy", "link set off0 up", fmt.Sprintf("addr add %s/32 dev off0", offMoon))
	n.Mallory.IP(t, fmt.Sprintf("addr add %s/32 dev lo", offMallory))
	n.Sun.IP(t, fmt.Sprintf("route add %s via %s", offMoon, moon), fmt.Sprintf("route add %s via %s", offMallory, mallory),
		fmt.Sprintf("route add default via %s", mallory))
	startOpportunistic(t, n.Moon, false, moon, offMoon)
	startOpportunistic(t, n.Sun, true, sun)
	if traps := n.Sun.Run(t, "ip", "xfrm", "policy"); !strings.Contains(traps, "dst 0.0.0.0/0") {
		t.Fatalf("pluto made no trap to 0/0:\n%s", traps)
	}
	startDaemon(t, n.Sun)
	wire := n.Wire(t)
	for _, peer := range []netip.Addr{moon, offMoon, mallory, offMallory} {
		eventuallyPings(t, n.Sun, peer)
	}
	// Pluto has its shunts and tunnels when a negotiation has ended.
	lab.Eventually(t, 6*lab.Patience, func() error {
		for _, g := range n.Gateways() {
			states := g.Run(t, "ip", "xfrm", "state")
			for _, peer := range []netip.Addr{moon, offMoon} {
				for _, way := range []string{fmt.Sprintf("src %s dst %s\n\tproto esp", sun, peer), fmt.Sprintf("src %s dst %s\n\tproto esp", peer, sun)} {
					if !strings.Contains(states, way) {
						return fmt.Errorf("%s has no state %q:\n%s", g.Name, way, states)
					}
				}
			}
		}
		policies := n.Sun.Run(t, "ip", "xfrm", "policy")
		for _, peer := range []netip.Addr{moon, offMoon, mallory, offMallory} {
			if !strings.Contains(policies, fmt.Sprintf("dst %s/32", peer)) {
				return fmt.Errorf("no policy for %s:\n%s", peer, policies)
			}
		}
		return nil
	})
	lab.InSync(t, n.Sun)
	inClear := func(peer netip.Addr) int {
		return wire.Count(t, func(f lab.Frame) bool { return f.Proto == 1 && (f.Src == peer || f.Dst == peer) })
	}
	for _, peer := range []netip.Addr{moon, offMoon} {
		before, esp := inClear(peer), wire.Count(t, lab.IsESP)
		n.Sun.MustPing(t, peer, 5)
		if after, now := inClear(peer), wire.Count(t, lab.IsESP); after > before || now < esp+10 {
			t.Errorf("%s: %d pings in clear, %d packets of ESP", peer, after-before, now-esp)
		}
	}
	n.Moon.MustPing(t, sun, 5)
	n.Moon.MustPing(t, sun, 5, "-I", offMoon.String())
	for _, peer := range []netip.Addr{mallory, offMallory} {
		n.Sun.MustPing(t, peer, 5)
		n.Mallory.MustPing(t, sun, 5, "-I", peer.String())
	}
	r := status(t, n.Sun)
	for guard, d := range r.Drops {
		if d.Packets != 0 {
			t.Errorf("%d packets were dropped as %s", d.Packets, guard)
		}
	}
	for _, w := range r.Warnings {
		t.Logf("ike: opportunistic: status: %s", w)
	}
	// A forged packet of a peer whose tunnel is up.
	inbox := n.Sun.ListenUDP(t, netip.AddrPortFrom(sun, 7000))
	for _, peer := range []netip.Addr{moon, offMoon} {
		n.Mallory.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(peer, 7001), inbox.Addr, "forged").Times(3)...)
	}
	n.Mallory.SendUDP(t, netip.AddrPort{}, inbox.Addr, "plain", 3)
	lab.Eventually(t, lab.Patience, func() error {
		if got := inbox.Count("plain"); got != 3 {
			return fmt.Errorf("%d datagrams of a host without IPsec arrived", got)
		}
		return nil
	})
	if got := inbox.Count("forged"); got != 0 {
		t.Errorf("%d forged packets of hosts whose tunnels are up arrived", got)
	}
	if text := n.Sun.Xfrmfw(t, "doctor", "--interval", "0s").Stdout; strings.Contains(text, "neither verified nor guarded") {
		t.Errorf("doctor says of guarded tunnels:\n%s", text)
	}
}
