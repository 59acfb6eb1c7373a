package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// policiesFor returns sun's policies for a tunnel to moon, without states.
func policiesFor(n *lab.Network, local, remote netip.Prefix) []lab.Policy {
	const f = lab.IPv4
	in, out := []lab.Template{{Src: n.Moon.Outer(f), Dst: n.Sun.Outer(f), Reqid: 41}}, []lab.Template{{Src: n.Sun.Outer(f), Dst: n.Moon.Outer(f), Reqid: 41}}
	return []lab.Policy{
		{Dir: "in", Src: remote, Dst: local, Templates: in}, {Dir: "fwd", Src: remote, Dst: local, Templates: in}, {Dir: "out", Src: local, Dst: remote, Templates: out},
	}
}

// TestForgedBeforeDNAT: a packet in clear from the far site to the address by which the tunnel knows a host, which NAT takes
// out of the local selector: NETMAP of overlapping sites, a REDIRECT to the gateway's own resolver, and DNAT to a host that
// has moved. Each arrives without xfrmfw once the tunnel is gone, and none with it.
func TestForgedBeforeDNAT(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	moved := addr("172.16.5.10")
	n.Mallory.IP(t, fmt.Sprintf("route add 10.99.0.0/24 via %s", n.Sun.Outer(f)))
	n.Bob.IP(t, fmt.Sprintf("addr add %s/32 dev eth0", moved))
	n.Sun.IP(t, fmt.Sprintf("route add %s dev lan0", moved))
	at := func(h *lab.Host, a netip.Addr, port uint16) *lab.Inbox {
		return h.ListenUDP(t, netip.AddrPortFrom(a, port))
	}
	bob, resolver, host := at(n.Bob, n.Bob.Inner(f), 7000), at(n.Sun, netip.IPv4Unspecified(), 9900), at(n.Bob, moved, 7000)
	for _, test := range []struct {
		name  string
		rules []string
		local string
		to    string
		inbox *lab.Inbox
	}{
		{"NETMAP", []string{"-d 10.99.0.0/24 -j NETMAP --to 10.2.0.0/24"}, "10.99.0.0/24", "10.99.0.10:7000", bob},
		{"REDIRECT", []string{"-p udp --dport 53 -j REDIRECT --to-ports 9900"}, "10.2.0.0/24", "10.2.0.10:53", resolver},
		{"DNAT", []string{"-d 10.2.0.53 -j DNAT --to-destination " + moved.String()}, "10.2.0.0/24", "10.2.0.53:7000", host},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, r := range test.rules {
				n.Sun.Iptables(t, f, append([]string{"-t", "nat", "-A", "PREROUTING"}, strings.Fields(r)...)...)
			}
			t.Cleanup(func() { n.Sun.Iptables(t, f, "-t", "nat", "-F", "PREROUTING") })
			forge := func(port uint16, payload string) {
				p := lab.UDPPacket(netip.AddrPortFrom(n.Alice.Inner(f), port), netip.MustParseAddrPort(test.to), payload)
				n.Mallory.SendRaw(t, p.Times(perAttack)...)
			}
			forge(7001, "control")
			arrive(t, test.inbox, "control")
			n.Sun.AddPolicies(t, policiesFor(n, prefix(test.local), n.Alice.InnerNet(f))...)
			n.Sun.MustXfrmfw(t, "apply")
			n.Sun.FlushXFRM(t)
			for i, state := range []string{stateFlushed, stateMemory} {
				if state == stateMemory {
					n.Sun.MustXfrmfw(t, "apply")
				}
				before := drops(t, n.Sun)
				forge(7002+uint16(i), state)
				dropped(t, n.Sun, before, "spoof", perAttack)
				if got := test.inbox.Count(state); got != 0 {
					t.Errorf("%s: %d arrived", state, got)
				}
			}
			n.Sun.MustXfrmfw(t, "forget", n.Alice.InnerNet(f).String())
			n.Sun.MustXfrmfw(t, "clear")
		})
	}
}

// TestMappedIntoSelector: source NAT maps packets into a local selector: by the own variant of iptables, the other one, or
// a table of nftables. With the tunnel down the mapped packets leave in clear without xfrmfw and not at all with it; a trap
// still gets its packet, so that the tunnel comes up.
func TestMappedIntoSelector(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.NotInUML(t, "nf_tables, and iptables no hook behind SNAT")
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	wan, remote := n.Sun.Outer(f), n.Alice.InnerNet(f)
	alice := n.Alice.ListenUDP(t, netip.AddrPortFrom(n.Alice.Inner(f), 7000))
	wire := n.Wire(t)
	other := map[string]string{"nft": "legacy", "legacy": "nft"}[lab.Variant()]
	port := uint16(7100)
	for _, test := range []struct{ name, add, del string }{
		{"iptables", "iptables -t nat -A POSTROUTING -o wan0 -j MASQUERADE", "iptables -t nat -F POSTROUTING"},
		{"the other variant", "iptables-" + other + " -t nat -A POSTROUTING -o wan0 -j MASQUERADE", "iptables-" + other + " -t nat -F POSTROUTING"},
		{"nftables", `nft 'table ip own { chain post { type nat hook postrouting priority srcnat; oifname "wan0" masquerade; }; }'`, "nft delete table ip own"},
		{"nftables, SNAT", fmt.Sprintf(`nft 'table ip own { chain post { type nat hook postrouting priority srcnat; oifname "wan0" snat to %s; }; }'`, wan), "nft delete table ip own"},
	} {
		t.Run(test.name, func(t *testing.T) {
			sh := func(line string) { t.Helper(); n.Sun.Run(t, "sh", "-ec", line) }
			sh(test.add)
			t.Cleanup(func() { sh(test.del) })
			leave := func(payload string) int {
				port++
				for range perAttack {
					_ = n.Bob.Do(func() error { return sendOne(netip.AddrPortFrom(n.Bob.Inner(f), port), alice.Addr, payload) })
				}
				n.Bob.MustPing(t, n.Mallory.Outer(f), 1) // of no tunnel: behind all of these
				return wire.Count(t, func(frame lab.Frame) bool {
					return frame.Link == "sun0" && strings.Contains(string(frame.Payload), payload)
				})
			}
			if got := leave("control " + test.name); got != perAttack {
				t.Fatalf("without xfrmfw %d of %d left in clear", got, perAttack)
			}
			n.Sun.AddPolicies(t, policiesFor(n, host(wan), remote)...)
			monitor := n.Sun.Start(t, nil, "ip", "xfrm", "monitor", "acquire")
			n.Sun.MustXfrmfw(t, "apply")
			if got := leave("trap " + test.name); got != 0 {
				t.Errorf("trap: %d left in clear", got)
			}
			monitor.WaitOutput(t, "acquire")
			monitor.Stop(t)
			n.Sun.FlushXFRM(t)
			if got := leave("flushed " + test.name); got != 0 {
				t.Errorf("flushed: %d left in clear", got)
			}
			n.Sun.MustXfrmfw(t, "apply")
			if got := leave("memory " + test.name); got != 0 {
				t.Errorf("memory: %d left in clear", got)
			}
			n.Sun.MustXfrmfw(t, "forget", remote.String())
			n.Sun.MustXfrmfw(t, "clear")
		})
	}
}

// TestMappedIsNotOwn: masquerading gives a LAN host's IKE this gateway's address. With the tunnel down it leaves in clear
// without xfrmfw and not at all with it, and the gateway's own IKE leaves.
func TestMappedIsNotOwn(t *testing.T) {
	lab.RunIn(t, lab.Newest)
	lab.NotInUML(t, "nf_tables, and iptables no hook behind SNAT")
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	n.Sun.Iptables(t, f, "-t", "nat", "-A", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE")
	wire := n.Wire(t)
	leave := func(from *lab.Host, src netip.Addr, port uint16, payload string) int {
		for range perAttack {
			_ = from.Do(func() error {
				return sendOne(netip.AddrPortFrom(src, 500), netip.AddrPortFrom(n.Alice.Inner(f), port), payload)
			})
		}
		n.Bob.MustPing(t, n.Mallory.Outer(f), 1)
		return wire.Count(t, func(frame lab.Frame) bool {
			return frame.Link == "sun0" && strings.Contains(string(frame.Payload), payload)
		})
	}
	if got := leave(n.Bob, n.Bob.Inner(f), 7000, "control"); got != perAttack {
		t.Fatalf("without xfrmfw %d of %d left in clear", got, perAttack)
	}
	n.Sun.AddPolicies(t, policiesFor(n, n.Bob.InnerNet(f), n.Alice.InnerNet(f))...)
	n.Sun.MustXfrmfw(t, "apply")
	n.Sun.FlushXFRM(t)
	for i, state := range []string{stateFlushed, stateMemory} {
		if state == stateMemory {
			n.Sun.MustXfrmfw(t, "apply")
		}
		if got := leave(n.Bob, n.Bob.Inner(f), 7000, "known flow, "+state); got != 0 {
			t.Errorf("%s: %d packets of a known flow left in clear", state, got)
		}
		if got := leave(n.Bob, n.Bob.Inner(f), uint16(7001+i), "new flow, "+state); got != 0 {
			t.Errorf("%s: %d packets of a new flow left in clear", state, got)
		}
		if got := leave(n.Sun, n.Sun.Outer(f), uint16(7003+i), "own, "+state); got != perAttack {
			t.Errorf("%s: %d of %d packets of this host's own IKE left", state, got, perAttack)
		}
	}
}

// TestStrangerMappedIntoLAN: with the tunnel up source NAT without a source of its own maps a stranger's packet into the LAN.
// It is encrypted for him without xfrmfw, and dropped with it. The LAN's pass.
func TestStrangerMappedIntoLAN(t *testing.T) {
	lab.RunIn(t, lab.Soak)
	lab.NotInUML(t, "nf_tables, and iptables no hook behind SNAT")
	const f = lab.IPv4
	n := lab.NewNetwork(t)
	wan, remote := n.Sun.Outer(f), n.Alice.InnerNet(f)
	alice := n.Alice.ListenUDP(t, netip.AddrPortFrom(n.Alice.Inner(f), 7000))
	port := uint16(7100)
	stranger := addr("198.51.100.66")
	n.Mallory.IP(t, fmt.Sprintf("addr add %s/32 dev lo", stranger), fmt.Sprintf("route replace %s via %s", remote, wan))
	n.Sun.IP(t, fmt.Sprintf("route add default via %s", n.Mallory.Outer(f)))
	n.Up(t, lab.IPsec{})
	n.Sun.Iptables(t, f, "-t", "nat", "-A", "POSTROUTING", "-d", remote.String(), "-j", "SNAT", "--to-source", n.Sun.Inner(f).String())
	from := func(h *lab.Host, src netip.Addr, payload string) int {
		port++
		h.SendUDP(t, netip.AddrPortFrom(src, port), alice.Addr, payload, perAttack)
		return alice.Count(payload)
	}
	lab.Eventually(t, lab.Patience, func() error {
		if from(n.Mallory, stranger, "a stranger, control") == 0 {
			return fmt.Errorf("without xfrmfw nothing of the stranger's arrived")
		}
		return nil
	})
	n.Sun.MustXfrmfw(t, "apply")
	before := drops(t, n.Sun)
	from(n.Mallory, stranger, "a stranger")
	dropped(t, n.Sun, before, "inject", perAttack)
	lab.Eventually(t, lab.Patience, func() error {
		if from(n.Bob, n.Bob.Inner(f), "the LAN") == 0 {
			return fmt.Errorf("nothing of bob's arrived")
		}
		return nil
	})
	if got := alice.Count("a stranger"); got != 0 {
		t.Errorf("%d of the stranger's arrived", got)
	}
}

// arrive waits until all packets of a control have arrived, without which a test shows nothing.
func arrive(t *testing.T, at *lab.Inbox, payload string) {
	t.Helper()
	lab.Eventually(t, lab.Patience, func() error {
		if got := at.Count(payload); got != perAttack {
			return fmt.Errorf("%s: %d of %d arrived", payload, got, perAttack)
		}
		return nil
	})
}
