package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// A way is some datagrams from a host to an inbox, and whether they shall arrive.
type way struct {
	name string
	from *lab.Host
	src  netip.AddrPort
	to   *lab.Inbox
	dst  netip.AddrPort // to.Addr, if it is not another one before DNAT
	pass bool
}

// travel sends all ways, those that shall be stopped first, and waits for those that shall arrive.
func travel(t *testing.T, what string, ways ...way) {
	t.Helper()
	send := func(w way) {
		if !w.dst.IsValid() {
			w.dst = w.to.Addr
		}
		_ = w.from.Do(func() error { return sendOne(w.src, w.dst, what+" "+w.name) })
	}
	for _, w := range ways {
		if !w.pass {
			send(w)
			send(w)
		}
	}
	for _, w := range ways {
		if !w.pass {
			continue
		}
		lab.Eventually(t, lab.Patience, func() error {
			send(w)
			if w.to.Count(what+" "+w.name) == 0 {
				return fmt.Errorf("%s: %s: does not arrive", what, w.name)
			}
			return nil
		})
	}
	for _, w := range ways {
		if got := w.to.Count(what + " " + w.name); !w.pass && got != 0 {
			t.Errorf("%s: %s: %d arrived, want none", what, w.name, got)
		}
	}
}

// TestRestrictionsAndLockdown holds a tunnel to some services, both ways, and its peer to
// some addresses, on a gateway with a WAN closed but for one service. A flow that was
// allowed inside the tunnel is not let through in clear when the tunnel is gone, though
// another program's rule lets in ESTABLISHED packets.
func TestRestrictionsAndLockdown(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := lab.NewNetwork(t)
	var config strings.Builder
	config.WriteString("wan: [wan0]\nlockdown: {services: [udp/7000]}\ntunnels:\n")
	caps := map[lab.Family]string{lab.IPv4: "10.1.0.0/25", lab.IPv6: "fd00:1::/72"}
	beyond := map[lab.Family]netip.Addr{lab.IPv4: addr("10.1.0.200"), lab.IPv6: addr("fd00:1::8000:0:0:1")}
	for i, f := range lab.Families {
		n.Up(t, lab.IPsec{Inner: f, Reqid: uint32(11 + i)})
		n.Alice.IP(t, fmt.Sprintf("addr add %s dev eth0", host(beyond[f])))
		fmt.Fprintf(&config, "  - match: {reqid: %d}\n    name: office%d\n    remote: [%q]\n    in: [udp/7000, icmp]\n    out: [udp/7002]\n", 11+i, f, caps[f])
		n.Sun.Rules(t, f, "filter", "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
			"-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
	}
	configure(t, n.Sun, config.String())
	n.Sun.MustXfrmfw(t, "apply")
	for _, f := range lab.Families {
		at := func(h *lab.Host, a netip.Addr, port uint16) *lab.Inbox {
			return h.ListenUDP(t, netip.AddrPortFrom(a, port))
		}
		alice, bob, sun, wan, mallory := n.Alice.Inner(f), n.Bob.Inner(f), n.Sun.Inner(f), n.Sun.Outer(f), n.Mallory.Outer(f)
		bob0, bob1, sun0, sun1 := at(n.Bob, bob, 7000), at(n.Bob, bob, 7001), at(n.Sun, sun, 7000), at(n.Sun, sun, 7001)
		alice2, alice3, far2 := at(n.Alice, alice, 7002), at(n.Alice, alice, 7003), at(n.Alice, beyond[f], 7002)
		flow := at(n.Alice, alice, 7100)
		on := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
		travel(t, f.String(),
			way{name: "in, allowed", from: n.Alice, src: on(alice, 0), to: bob0, pass: true},
			way{name: "in, another port", from: n.Alice, src: on(alice, 0), to: bob1},
			way{name: "in, to the gateway", from: n.Alice, src: on(alice, 0), to: sun0, pass: true},
			way{name: "in, to the gateway, another port", from: n.Alice, src: on(alice, 0), to: sun1},
			way{name: "in, beyond the cap", from: n.Alice, src: on(beyond[f], 0), to: bob0},
			way{name: "out, allowed", from: n.Bob, to: alice2, pass: true},
			way{name: "out, another port", from: n.Bob, to: alice3},
			way{name: "out, of the gateway", from: n.Sun, src: on(sun, 0), to: alice2, pass: true},
			way{name: "out, of the gateway, another port", from: n.Sun, src: on(sun, 0), to: alice3},
			way{name: "out, beyond the cap", from: n.Bob, to: far2})
		n.Alice.MustPing(t, bob, 1, "-I", alice.String())

		// A flow with replies, which out: does not name.
		lab.Eventually(t, lab.Patience, func() error {
			_ = flow.Send(bob0.Addr, "flow")
			_ = bob0.Send(flow.Addr, "reply")
			if bob0.Count("flow") == 0 || flow.Count("reply") == 0 {
				return fmt.Errorf("%v: the flow does not pass both ways", f)
			}
			return nil
		})

		// Lockdown: from mallory on the WAN.
		wan0, wan1, dhcp := at(n.Sun, wan, 7000), at(n.Sun, wan, 7001), at(n.Sun, wan, map[lab.Family]uint16{lab.IPv4: 68, lab.IPv6: 546}[f])
		server, asks := at(n.Mallory, mallory, 7000), at(n.Sun, wan, 7200)
		for _, h := range []*lab.Host{n.Sun, n.Mallory} {
			h.Run(t, "ip", "neigh", "flush", "all") // so that neighbours have to be found through the lockdown
		}
		travel(t, f.String(),
			way{name: "WAN, a service", from: n.Mallory, to: wan0, pass: true},
			way{name: "WAN, another port", from: n.Mallory, to: wan1},
			way{name: "WAN, to the LAN", from: n.Mallory, to: bob1},
			way{name: "WAN, DHCP", from: n.Mallory, src: on(mallory, map[lab.Family]uint16{lab.IPv4: 67, lab.IPv6: 547}[f]), to: dhcp, pass: true},
			way{name: "LAN, to the WAN", from: n.Bob, to: server, pass: true})
		lab.Eventually(t, lab.Patience, func() error {
			_ = asks.Send(server.Addr, "question")
			_ = server.Send(asks.Addr, "answer")
			if asks.Count("answer") == 0 {
				return fmt.Errorf("%v: no answer gets through the lockdown", f)
			}
			return nil
		})
		n.Sun.MustPing(t, mallory, 1) // ICMP is no service, but an answer
		n.Mallory.MustNotPing(t, wan, 1)
	}
	d := drops(t, n.Sun)
	if d["restricted"] < 16 || d["lockdown"] < 8 || d["crossed"] < 4 || d["spoof"] != 0 {
		t.Errorf("drops: %v, want restricted 16, lockdown 8 and crossed 4 or more, and no spoof", d)
	}

	// The tunnels go, and their flows go on in clear.
	wire := n.Wire(t)
	for _, g := range n.Gateways() {
		g.FlushXFRM(t)
	}
	for _, f := range lab.Families {
		n.Mallory.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(n.Alice.Inner(f), 7100), netip.AddrPortFrom(n.Bob.Inner(f), 7000), "in clear").Times(perAttack)...)
		_ = n.Bob.Do(func() error {
			return sendOne(netip.AddrPortFrom(n.Bob.Inner(f), 7500), netip.AddrPortFrom(n.Alice.Inner(f), 7002), "out in clear")
		})
	}
	lab.Eventually(t, lab.Patience, func() error {
		if got := drops(t, n.Sun); got["spoof"] != 2*perAttack || got["leak"] < 2 {
			return fmt.Errorf("drops %v, want spoof %d and leak 2", got, 2*perAttack)
		}
		return nil
	})
	if got := wire.Count(t, func(f lab.Frame) bool {
		return f.Link == "sun0" && strings.Contains(string(f.Payload), "out in clear")
	}); got != 0 {
		t.Errorf("%d packets left in clear", got)
	}
}
