package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// watched are the chains with counters behind the rules that set and clear our bits: our
// jumps, or the table of nftables, which sets the bits for the last time right before
// filter.
func watched() map[string][]string {
	if lab.Engine() == "nftables" {
		return map[string][]string{"filter": {"FORWARD"}, "security": {"INPUT", "FORWARD"}}
	}
	return map[string][]string{"mangle": {"PREROUTING", "INPUT", "FORWARD"}, "filter": {"INPUT", "FORWARD"}}
}

// marking is the table with the first chains that see the bits of a packet.
func marking() string {
	if lab.Engine() == "nftables" {
		return "security" // behind filter: accepts in filter end only filter
	}
	return "mangle"
}

// watch counts in these chains, of the packets that came out of no state, those with VERIFIED as forged, those with TAG
// as tagged and those without VERIFIED as clear; of the others those with VERIFIED as genuine.
func watch(t *testing.T, h *lab.Host, f lab.Family) {
	t.Helper()
	for table, chains := range watched() {
		var lines []string
		for _, chain := range chains {
			for comment, match := range map[string]string{
				"forged":  "-m policy --dir in --pol none -m mark --mark 0x20000000/0x20000000",
				"tagged":  "-m policy --dir in --pol none -m mark --mark 0x10000000/0x10000000",
				"clear":   "-m policy --dir in --pol none -m mark --mark 0x0/0x20000000",
				"genuine": "-m policy --dir in --pol ipsec -m mark --mark 0x20000000/0x20000000",
			} {
				lines = append(lines, fmt.Sprintf("-A %s %s -m comment --comment %s", chain, match, comment))
			}
		}
		h.Rules(t, f, table, lines...)
	}
}

// counts are the packets of all rules with a comment that are not ours, by "table chain comment".
func counts(t *testing.T, h *lab.Host, f lab.Family) map[string]int {
	t.Helper()
	program := map[lab.Family]string{lab.IPv4: "iptables-save", lab.IPv6: "ip6tables-save"}[f]
	found, table := map[string]int{}, ""
	for _, line := range strings.Split(h.Run(t, program, "-c"), "\n") {
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table = name
		}
		var packets, bytes int
		var chain string
		if _, err := fmt.Sscanf(line, "[%d:%d] -A %s", &packets, &bytes, &chain); err != nil {
			continue
		}
		if _, comment, ok := strings.Cut(line, "--comment "); ok && !strings.Contains(line, "xfrmfw:") {
			found[table+" "+chain+" "+strings.Fields(comment)[0]] += packets
		}
	}
	return found
}

// TestCleartextIsNeverVerified has an attacker on the WAN try everything to pass for a
// tunnel's traffic. The gateway under attack lets packets pass that xfrmfw leaves alone,
// so that a packet with the bit is seen everywhere on its way.
func TestCleartextIsNeverVerified(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	for _, f := range lab.Families {
		t.Run(f.String(), func(t *testing.T) {
			n := lab.NewNetwork(t)
			tunnel := lab.IPsec{Inner: f}
			n.Up(t, tunnel)
			n.Sun.HoldUDPEncap(t, f, 4500, false)
			n.Sun.MustXfrmfw(t, "apply")
			watch(t, n.Sun, f)
			spi := n.SAs(n.Sun, tunnel)[0].SPI
			inbox := n.Bob.ListenUDP(t, netip.AddrPortFrom(n.Bob.Inner(f), 7000))
			alice, bob, mallory := n.Alice.Inner(f), n.Bob.Inner(f), n.Mallory.Outer(f)
			udp := func(src netip.Addr, srcPort uint16, dst netip.Addr, dstPort uint16, payload string) lab.Packet {
				return lab.UDPPacket(netip.AddrPortFrom(src, srcPort), netip.AddrPortFrom(dst, dstPort), payload)
			}
			// attack sends a packet three times and waits until the rule has counted it
			// three times, because a packet that did not come by proves nothing. No chain
			// may then have counted a forged one. A packet with a tunnel's source is
			// dropped before any rule of others: "spoof" counts that.
			seen := func() map[string]int {
				c := counts(t, n.Sun, f)
				c["spoof"] = drops(t, n.Sun)["spoof"]
				return c
			}
			attack := func(name, rule string, packet lab.Packet) {
				t.Helper()
				before := seen()
				n.Mallory.SendRaw(t, packet.Times(3)...)
				var after map[string]int
				lab.Eventually(t, lab.Patience, func() error {
					after = seen()
					if got := after[rule] - before[rule]; got < 3 {
						return fmt.Errorf("%s: %s counted %d packets, want 3: %v", name, rule, got, after)
					}
					return nil
				})
				for rule, got := range after {
					if strings.HasSuffix(rule, " forged") && got != 0 {
						t.Fatalf("%s: %d packets in clear with VERIFIED in %s", name, got, rule)
					}
				}
			}

			n.Alice.MustPing(t, bob, 3)
			for _, rule := range []string{"mangle PREROUTING genuine", marking() + " FORWARD genuine"} {
				if strings.Contains(rule, "PREROUTING") && marking() != "mangle" {
					continue // no bit is on a packet before it is routed
				}
				if got := counts(t, n.Sun, f)[rule]; got != 3 {
					t.Errorf("%s counted %d of the tunnel's own packets, want 3", rule, got)
				}
			}
			attack("a forged source", "spoof", udp(alice, 7001, bob, 7000, "forged"))
			attack("a forged source, to the gateway", "spoof", udp(alice, 7001, n.Sun.Inner(f), 7000, "forged"))
			attack("UDP/4500 in transit", "filter FORWARD clear", udp(mallory, 4500, bob, 4500, lab.ESPPayload(spi, 1)))
			attack("UDP/4500 in transit, forged source", "spoof", udp(alice, 4500, bob, 4500, lab.ESPPayload(spi, 1)))
			attack("UDP/4500 to the gateway", marking()+" INPUT clear", udp(mallory, 4500, n.Sun.Outer(f), 4500, lab.ESPPayload(spi, 1)))
			attack("ESP in transit", "filter FORWARD clear", lab.ESPPacket(mallory, bob, spi, 1))
			attack("ESP from the peer in transit", "filter FORWARD clear", lab.ESPPacket(n.Moon.Outer(f), bob, spi, 1))
			attack("ESP to the gateway", marking()+" INPUT clear", lab.ESPPacket(n.Moon.Outer(f), n.Sun.Outer(f), spi, 1))
			c := counts(t, n.Sun, f)
			for _, rule := range []string{"mangle PREROUTING tagged", "mangle FORWARD tagged", "filter FORWARD tagged"} {
				if c[rule] != 0 {
					t.Errorf("%d packets in clear with TAG in %s", c[rule], rule)
				}
			}
			if c[marking()+" INPUT tagged"] == 0 {
				t.Error("outer packets to the gateway were not tagged: the others prove nothing")
			}
			if got := inbox.Count("forged"); got != 0 {
				t.Errorf("%d packets with a forged source came through", got)
			}

			// Other programs' marks, before our rules and behind them.
			n.Sun.Rules(t, f, "raw", "-A PREROUTING -p udp --sport 7002 -j MARK --set-xmark 0x30000000/0x30000000")
			n.Sun.Rules(t, f, "mangle",
				"-A PREROUTING -p udp --sport 7003 -j MARK --set-xmark 0x30000000/0x30000000",
				"-A PREROUTING -p udp --sport 7001 -m connmark ! --mark 0 -j CONNMARK --restore-mark",
				"-A PREROUTING -p udp --sport 7001 -m policy --dir in --pol none -m mark --mark 0x20000000/0x20000000 -m comment --comment restored",
				"-A FORWARD -p udp --sport 7001 -j CONNMARK --save-mark")
			attack("marked before us", "filter FORWARD clear", udp(mallory, 7002, bob, 7000, "before"))
			attack("marked behind us", "filter FORWARD clear", udp(mallory, 7003, bob, 7000, "behind"))
			arrived := func(payload string, want int) {
				t.Helper()
				lab.Eventually(t, lab.Patience, func() error {
					if got := inbox.Count(payload); got != want {
						return fmt.Errorf("%d of %q arrived, want %d", got, payload, want)
					}
					return nil
				})
			}
			arrived("before", 3)
			arrived("behind", 3)

			// A flow of the tunnel leaves its mark with conntrack, and the tunnel goes.
			n.Alice.SendUDP(t, netip.AddrPortFrom(alice, 7001), inbox.Addr, "real", 3)
			arrived("real", 3)
			n.Sun.FlushXFRM(t)
			attack("a restored mark", "spoof", udp(alice, 7001, bob, 7000, "restored"))
			arrived("restored", 0)
			forget(t, n.Sun)
			n.Sun.MustXfrmfw(t, "apply")
			attack("a restored mark, the tunnel forgotten", "filter FORWARD clear", udp(alice, 7001, bob, 7000, "forgotten"))
			arrived("forgotten", 3) // nobody's traffic: another firewall's business

			// The same on a closed gateway: none of our rules lets any of it in.
			closed(t, n.Sun)
			attack("closed, marked before us", "filter FORWARD clear", udp(mallory, 7002, bob, 7000, "closed"))
			attack("closed, marked behind us", "filter FORWARD clear", udp(mallory, 7003, bob, 7000, "closed"))
			attack("closed, a restored mark", "filter FORWARD clear", udp(alice, 7001, bob, 7000, "closed"))
			arrived("closed", 0)
		})
	}
}
