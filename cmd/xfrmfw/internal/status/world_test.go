package status

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// now is the time of all snapshots here: 2025-03-01 12:00:00 UTC.
const now = 1740830400

// hub is the host of the gateways here.
func hub() xfrm.Host {
	return xfrm.Host{
		Links:     []xfrm.Link{{Index: 1, Name: "lo", Up: true}, {Index: 2, Name: "eth0", Up: true}},
		Addresses: []xfrm.Address{{Link: 2, Prefix: netip.MustParsePrefix("198.51.100.1/24")}},
		// Its effect on the evidence is shown too.
		ESP6Offload: true,
	}
}

// aged gives a site's states their ages, in seconds and the oldest first, and
// counters that follow from them. port is that of UDP encapsulation at the peer,
// 0 for none.
func aged(s sample.Site, port uint16, ages ...uint64) sample.Site {
	s.Down, s.Rekeys = len(ages) == 0, len(ages)-1
	s.Tune = func(state *xfrm.State, inbound bool, rekey int) {
		age := ages[rekey]
		state.AddTime, state.Packets, state.Bytes = now-age, age*11, age*9001
		if !inbound {
			state.Packets, state.Bytes = age*7, age*8003
		}
		if port == 0 {
			return
		}
		state.Encap = xfrm.Encap{Type: 2, SPort: port, DPort: 4500}
		if !inbound {
			state.Encap = xfrm.Encap{Type: 2, SPort: 4500, DPort: port}
		}
	}
	return s
}

// inputOf is a gateway as it is once its rules have been applied.
func inputOf(t testing.TB, s xfrm.Snapshot, in firewall.Input) Input {
	t.Helper()
	s.Time = now
	in.Set, in.Host, in.Config.Marks = xfrm.Tunnels(s), s.Host, firewall.DefaultMarks()
	result := compile.Compile(in)
	return Input{Snapshot: s, Set: in.Set, Marks: in.Config.Marks, Result: result, Live: liveOf(t, result.Rulesets), Peers: make(map[string]Peer)}
}

// liveOf prints the rule sets as iptables-save would, with counters that differ
// from rule to rule, among a foreign rule, and reads that back.
func liveOf(t testing.TB, rulesets []rules.Ruleset) map[xfrm.Family]live.Tables {
	t.Helper()
	have := make(map[xfrm.Family]live.Tables)
	for _, rs := range rulesets {
		var b strings.Builder
		n := uint64(0)
		for _, table := range []rules.Table{rules.Filter, rules.Mangle, rules.NAT} {
			fmt.Fprintf(&b, "*%s\n:INPUT ACCEPT [5:500]\n", table)
			for _, c := range rs.Chains {
				if c.Table == table {
					fmt.Fprintf(&b, ":%s - [0:0]\n", c.Name)
				}
			}
			fmt.Fprintf(&b, "[9:900] -A INPUT -i lo -j ACCEPT\n")
			for _, c := range rs.Chains {
				for _, r := range c.Rules.All() {
					if c.Table == table {
						n++
						fmt.Fprintf(&b, "[%d:%d] -A %s %s\n", n*37%101, n*37%101*840, c.Name, rules.AppendLine(nil, rs.Family, table, c.Name, r))
					}
				}
			}
			b.WriteString("COMMIT\n")
		}
		save, err := live.Parse([]byte(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		have[rs.Family] = save
	}
	return have
}

// small is a gateway with one tunnel of each kind.
func small(t testing.TB) Input {
	t.Helper()
	s := sample.Snapshot(hub(),
		aged(sample.Site{Reqid: 1, Local: "198.51.100.1", Remote: "203.0.113.7", Pairs: [][2]string{{"10.2.0.0/24", "10.1.0.0/24"}, {"10.2.9.0/24", "10.1.0.0/24"}}}, 0, 3581, 12),
		aged(sample.Site{Reqid: 2, Local: "198.51.100.1", Remote: "203.0.113.99", Pairs: [][2]string{{"0.0.0.0/0", "10.99.0.5/32"}}}, 1027, 90061),
		aged(sample.Site{Reqid: 3, Local: "198.51.100.1", Remote: "192.0.2.33", Pairs: [][2]string{{"10.2.0.0/24", "172.16.0.0/12"}}}, 0),
		aged(sample.Site{
			Reqid: 4, Local: "2001:db8:ffff:1234:5678:9abc:def0:1111", Remote: "2001:db8:ffff:4321:8765:cba9:0fed:2222",
			Pairs: [][2]string{{"fd00:2:aaaa:bbbb::/64", "fd00:1:cccc:dddd:1111:2222:3333:4444/128"}}, Proto: xfrm.TCP, Port: 443,
		}, 0, 61),
	)
	s.Policies = append(s.Policies, xfrm.Policy{Dir: xfrm.SocketIn, Selector: xfrm.Selector{Family: xfrm.IPv4}}) // an IKE daemon's
	s.Skipped = []xfrm.Ignored{{Object: "state message of 12 bytes", Reason: "shorter than its header"}}
	p := netip.MustParsePrefix
	service := []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(443)}}
	in := inputOf(t, s, firewall.Input{
		Config: firewall.Config{Log: firewall.LogConfig{Kernel: true, PerSecond: 5}, Tunnels: []firewall.TunnelConfig{
			{Match: firewall.Match{Reqid: 1}, Name: "office", MSS: firewall.MSS{Size: 1300}, In: service, Out: service, Remote: []netip.Prefix{p("10.0.0.0/8")}},
			{Match: firewall.Match{Reqid: 2}, Name: "roadwarriors"},
		}},
		Guards: []guard.Guard{
			{Local: p("10.2.0.0/24"), Remote: p("10.7.0.0/16"), Source: guard.FromMemory, Since: now - 86400, Expires: now + 86400},
			{Local: p("10.2.0.0/24"), Remote: p("10.8.0.0/16"), Source: guard.FromConfig},
			{Local: p("10.2.0.0/24"), Remote: p("10.8.9.0/24"), Source: guard.FromMemory, Exception: true},
		},
	})
	for _, tun := range in.Set.Tunnels {
		switch tun.Reqid {
		case 1:
			in.Peers[tun.ID] = Peer{Connection: "office-v4", PeerID: "C=CH, O=Example, CN=gw.example.org"}
		case 2:
			in.Peers[tun.ID] = Peer{Connection: "roadwarriors", PeerID: "alice@example.org", User: "alice", VirtualIPs: []string{"10.99.0.5"}}
		}
	}
	in.Variant, in.Daemon = "nft", Daemon{Running: true, LastReconcile: "2025-03-01T11:59:48Z"}
	in.Warnings = []string{"interface eth0 has generic receive offload for UDP on, so the tag may be missing on ESP in UDP: turn it off with \"ethtool -K eth0 rx-udp-gro-forwarding off\""}
	return in
}

// large is a gateway with that many tunnels.
func large(t testing.TB, n int) Input {
	t.Helper()
	sites := make([]sample.Site, n)
	var config firewall.Config
	for i := range sites {
		site := sample.Site{
			Reqid: uint32(i + 1), Local: "198.51.100.1", Remote: fmt.Sprintf("203.0.%d.%d", i/200, i%200+1),
			Pairs: [][2]string{{"10.2.0.0/16", fmt.Sprintf("172.%d.%d.0/24", 16+i/256, i%256)}},
		}
		sites[i] = aged(site, 0, uint64(i*37%9000+1))
		if i%7 == 3 {
			sites[i] = aged(site, 0)
		}
		if i%3 > 0 && i < 300 { // to look for an entry takes its time
			config.Tunnels = append(config.Tunnels, firewall.TunnelConfig{Match: firewall.Match{Reqid: site.Reqid}, Name: fmt.Sprintf("site-%d", i)})
		}
	}
	in := inputOf(t, sample.Snapshot(hub(), sites...), firewall.Input{Config: config})
	in.Variant = "legacy"
	return in
}
