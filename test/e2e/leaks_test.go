package e2e

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// A leak is traffic of the protected pair, or about it, that may leave sun in no state but inside the tunnel.
type leak struct {
	name string
	// naked are the states in which it leaves in clear without xfrmfw.
	naked []string
	send  func(payload string)
}

// leakSite is a network with flows that are older than its tunnels.
type leakSite struct {
	*lab.Network
	tunnels []lab.IPsec
	wire    *lab.Capture
	port    uint16
	older   map[lab.Family]oldFlows
	virtual map[lab.Family]netip.Addr // sun's, while the tunnel is up
	outside map[lab.Family]*lab.Inbox // mallory's
}

// oldFlows are bob's ends of flows that began before the tunnel.
type oldFlows struct {
	alice, clear, masqueraded, forwarded *lab.Inbox
}

// leakAddrs are the further addresses that leaks need.
type leakAddrs struct {
	unprotected, mapped, narrow, virtual, virtualPeer netip.Addr
	virtualNet                                        netip.Prefix
}

var leakAddresses = map[lab.Family]leakAddrs{
	lab.IPv4: {addr("192.168.7.5"), addr("10.2.0.9"), addr("10.2.0.12"), addr("10.99.0.5"), addr("10.11.0.10"), prefix("10.11.0.0/24")},
	lab.IPv6: {addr("fd00:7::5"), addr("fd00:2::9"), addr("fd00:2::12"), addr("fd00:99::5"), addr("fd00:11::10"), prefix("fd00:11::/64")},
}

func newLeakSite(t *testing.T) *leakSite {
	t.Helper()
	n := &leakSite{Network: lab.NewNetwork(t), outside: map[lab.Family]*lab.Inbox{}, virtual: map[lab.Family]netip.Addr{}}
	for _, f := range lab.Families {
		a := leakAddresses[f]
		n.tunnels = append(n.tunnels, lab.IPsec{Inner: f, Reqid: uint32(f)},
			lab.IPsec{Inner: f, Reqid: uint32(30 + f), SunNets: []netip.Prefix{host(a.virtual)}, MoonNets: []netip.Prefix{a.virtualNet}})
		n.Bob.IP(t, fmt.Sprintf("addr add %s dev eth0", host(a.unprotected)), fmt.Sprintf("addr add %s dev eth0", host(a.narrow)))
		// alice must go on sending large packets, whatever she hears.
		n.Alice.IP(t, fmt.Sprintf("route add %s via %s mtu lock 1500", host(a.narrow), n.Moon.Inner(f)))
		n.Sun.IP(t, fmt.Sprintf("route add %s dev lan0", host(a.unprotected)),
			fmt.Sprintf("route add %s dev lan0 mtu lock 1300", host(a.narrow)),
			fmt.Sprintf("route add %s via %s", a.virtualNet, n.Moon.Outer(f)))
		n.Sun.Rules(t, f, "nat",
			fmt.Sprintf("-A POSTROUTING -s %s -d %s -j SNAT --to-source %s", a.unprotected, n.Moon.InnerNet(f), a.mapped),
			"-A POSTROUTING -o wan0 -p udp --sport 7020:7029 -j MASQUERADE",
			fmt.Sprintf("-A PREROUTING -d %s -p udp --dport 7030 -j DNAT --to-destination %s", n.Sun.Outer(f), netip.AddrPortFrom(n.Bob.Inner(f), 7030)),
			fmt.Sprintf("-A PREROUTING -d %s -p udp --dport 7031 -j DNAT --to-destination %s", n.Sun.Outer(f), netip.AddrPortFrom(n.Bob.Inner(f), 7031)))
		n.outside[f] = n.Mallory.ListenUDP(t, netip.AddrPortFrom(n.Mallory.Outer(f), 7000))
	}
	n.Sun.Sysctl(t, "net/ipv4/icmp_ratelimit=0", "net/ipv6/icmp/ratelimit=0",
		"net/netfilter/nf_conntrack_udp_timeout=3600", "net/netfilter/nf_conntrack_udp_timeout_stream=3600")
	n.wire = n.Wire(t)
	return n
}

// startFlows begins flows between alice and bob while there is no tunnel.
func (n *leakSite) startFlows(t *testing.T) {
	t.Helper()
	n.older = make(map[lab.Family]oldFlows)
	for _, f := range lab.Families {
		at := func(h *lab.Host, port uint16) *lab.Inbox {
			return h.ListenUDP(t, netip.AddrPortFrom(h.Inner(f), port+n.port))
		}
		o := oldFlows{alice: at(n.Alice, 7000), clear: at(n.Bob, 7010), masqueraded: at(n.Bob, 7020), forwarded: at(n.Bob, 7030)}
		n.older[f] = o
		for _, way := range []struct {
			from, to *lab.Inbox
			dst      netip.AddrPort
		}{
			{o.clear, o.alice, o.alice.Addr}, {o.masqueraded, o.alice, o.alice.Addr},
			{o.alice, o.forwarded, netip.AddrPortFrom(n.Sun.Outer(f), 7030+n.port)},
		} {
			payload := fmt.Sprint("old ", way.from.Addr)
			lab.Eventually(t, lab.Patience, func() error {
				if err := way.from.Send(way.dst, payload); err != nil {
					return err
				}
				if way.to.Count(payload) == 0 {
					return fmt.Errorf("nothing from %v has reached %v", way.from.Addr, way.to.Addr)
				}
				return nil
			})
		}
	}
}

// leaks are those of one family.
func (n *leakSite) leaks(t *testing.T, f lab.Family) []leak {
	a, o := leakAddresses[f], n.older[f]
	down := []string{stateFlushed, stateMemory, stateBoot}
	upAndDown := append([]string{stateUp, stateOffload}, down...)
	from := func(h *lab.Host, src netip.Addr, dst netip.Addr) func(string) {
		return func(payload string) {
			source := netip.AddrPort{}
			if src.IsValid() {
				source = netip.AddrPortFrom(src, 0)
			}
			n.sendAnyhow(h, source, netip.AddrPortFrom(dst, 7000+n.port), payload)
		}
	}
	on := func(box *lab.Inbox, dst netip.AddrPort) func(string) {
		return func(payload string) {
			for range perAttack {
				_ = box.Send(dst, payload) // a refusal is an answer to the one before
			}
		}
	}
	crafted := func(dst netip.Addr, change func(lab.Packet), padding int) func(string) {
		return func(payload string) {
			p := lab.UDPPacket(netip.AddrPortFrom(n.Alice.Inner(f), 7040), netip.AddrPortFrom(dst, 7041), payload+strings.Repeat(".", padding))
			change(p)
			for range perAttack {
				n.Alice.Run(t, "ip", "-6", "route", "flush", "cache") // and in IPv6 a locked MTU does not stop her learning
				n.Alice.SendRaw(t, p)
			}
		}
	}
	hops := func(p lab.Packet) {
		if f == lab.IPv4 {
			p[8] = 2
		} else {
			p[7] = 2
		}
	}
	unfragmented := func(p lab.Packet) {
		if f == lab.IPv4 {
			p[6] = 0x40
		}
	}
	return []leak{
		{"new flow of a LAN host", down, from(n.Bob, n.Bob.Inner(f), n.Alice.Inner(f))},
		{"new flow of the gateway", down, from(n.Sun, n.Sun.Inner(f), n.Alice.Inner(f))},
		{"flow older than the tunnel", down, on(o.clear, o.alice.Addr)},
		{"flow masqueraded before the tunnel came up", upAndDown, on(o.masqueraded, o.alice.Addr)},
		{"replies of a flow port-forwarded before", upAndDown, on(o.forwarded, o.alice.Addr)},
		{"SNATed into a local selector", down, from(n.Bob, a.unprotected, n.Alice.Inner(f))},
		{"from a virtual IP, or without it once it is gone", append([]string{stateTrap}, down...), from(n.Sun, n.virtual[f], a.virtualPeer)},
		{"fragments", down, func(payload string) {
			from(n.Bob, n.Bob.Inner(f), n.Alice.Inner(f))(strings.Repeat(payload+" ", 3000/(len(payload)+1)))
		}},
		{"TTL expiry that quotes", upAndDown, crafted(n.Bob.Inner(f), hops, 0)},
		{"path MTU that quotes", upAndDown, crafted(a.narrow, unfragmented, 1320)},
	}
}

// sendAnyhow sends datagrams whether or not the kernel or a firewall refuses them.
func (n *leakSite) sendAnyhow(h *lab.Host, src, dst netip.AddrPort, payload string) {
	_ = h.Do(func() error {
		for range perAttack {
			_ = sendOne(src, dst, payload)
		}
		return nil
	})
}

// leave sends all in one state and returns how many packets about each were on the wire in clear.
func (n *leakSite) leave(t *testing.T, phase, state string) map[string]int {
	t.Helper()
	payload := func(f lab.Family, l leak) string { return fmt.Sprintf("[%s %s %v %s]", phase, state, f, l.name) }
	for _, f := range lab.Families {
		for _, l := range n.leaks(t, f) {
			l.send(payload(f, l))
		}
	}
	// Traffic of no tunnel does leave, after all of that.
	for _, f := range lab.Families {
		last := fmt.Sprintf("last %s %s", phase, state)
		lab.Eventually(t, lab.Patience, func() error {
			n.sendAnyhow(n.Bob, netip.AddrPort{}, n.outside[f].Addr, last)
			n.sendAnyhow(n.Sun, netip.AddrPort{}, n.outside[f].Addr, last+" own")
			if n.outside[f].Count(last) == 0 || n.outside[f].Count(last+" own") == 0 {
				return fmt.Errorf("%v: what bob and sun send to mallory does not arrive", f)
			}
			return nil
		})
	}
	got := make(map[string]int)
	count := func() {
		for _, f := range lab.Families {
			for _, l := range n.leaks(t, f) {
				text := payload(f, l)
				got[fmt.Sprintf("%v %s", f, l.name)] = n.wire.Count(t, func(frame lab.Frame) bool {
					return frame.Link == "sun0" && strings.Contains(string(frame.Payload), text[1:len(text)-1])
				})
			}
		}
	}
	if phase == "without" {
		lab.Eventually(t, lab.Patience, func() error {
			count()
			for _, f := range lab.Families {
				for _, l := range n.leaks(t, f) {
					name := fmt.Sprintf("%v %s", f, l.name)
					if slices.Contains(l.naked, state) && got[name] < perAttack {
						return fmt.Errorf("without xfrmfw, %s: %s: %d packets left in clear, want %d", state, name, got[name], perAttack)
					}
				}
			}
			return nil
		})
	}
	count()
	return got
}

// enter takes the tunnels from the state before into the next. xfrmfw sees SAs come and go, as its daemon does; that
// policies go too it sees only in the last state.
func (n *leakSite) enter(t *testing.T, phase, state string) {
	t.Helper()
	for _, c := range n.tunnels {
		for _, g := range n.Gateways() {
			switch state {
			case stateTrap:
				g.DeleteSAs(t, n.SAs(g, c)...)
			case stateFlushed:
				g.DeletePolicies(t, n.Policies(g, c)...)
			}
		}
	}
	for _, f := range lab.Families {
		switch a := leakAddresses[f].virtual; state {
		case stateUp:
			n.Sun.IP(t, fmt.Sprintf("addr add %s dev lo", host(a)))
			n.virtual[f] = a
		case stateTrap:
			n.Sun.IP(t, fmt.Sprintf("addr del %s dev lo", host(a)))
			delete(n.virtual, f)
		}
	}
	if state == stateOffload {
		lab.LoadESPOffload(t)
	}
	switch {
	case phase == "with" && state == stateBoot:
		boots(t, n.Sun)
	case phase == "with" && state != stateFlushed:
		n.Sun.MustXfrmfw(t, "apply")
	}
}

// TestGuardsAgainstLeaks sends everything that could leave a gateway in clear, in every state, without xfrmfw and with
// it, and looks at the wire.
func TestGuardsAgainstLeaks(t *testing.T) {
	n := newLeakSite(t)
	n.EnableGRO(t)
	states := []string{stateUp, stateOffload, stateTrap, stateFlushed, stateMemory, stateBoot}
	left := map[string]map[string]int{}
	for _, phase := range []string{"without", "with"} {
		if phase == "with" {
			n.port++
		}
		n.startFlows(t)
		for _, c := range n.tunnels {
			n.Up(t, c)
		}
		for _, state := range states {
			if phase == "without" && (state == stateMemory || state == stateBoot) {
				left[phase+" "+state] = left[phase+" "+stateFlushed]
				continue
			}
			if phase == "without" && state == stateOffload { // it is about inbound packets
				left[phase+" "+state] = left[phase+" "+stateUp]
				continue
			}
			n.enter(t, phase, state)
			var before int
			if phase == "with" {
				before = drops(t, n.Sun)["leak"]
			}
			got := n.leave(t, phase, state)
			left[phase+" "+state] = got
			if phase == "without" {
				continue
			}
			for _, name := range slices.Sorted(maps.Keys(got)) {
				if got[name] != 0 {
					t.Errorf("with xfrmfw, %s: %s: %d packets left in clear", state, name, got[name])
				}
			}
			if counted := drops(t, n.Sun)["leak"] - before; counted == 0 && state != stateTrap {
				t.Errorf("with xfrmfw, %s: no packet was counted as leak", state)
			}
		}
	}
	for _, f := range lab.Families { // the sender is told
		packets := 1
		if lab.Engine() == "nftables" {
			packets = 2 // behind all NAT a packet can only be dropped; the next one of its flow is refused before
		}
		p := n.Bob.Ping(t, n.Alice.Inner(f), packets)
		if told := strings.ToLower(p.Output); p.Received != 0 || !strings.Contains(told, "prohibited") && !strings.Contains(told, "filtered") {
			t.Errorf("bob's ping of what is down says\n%s", p.Output)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nin clear on the wire, without → with xfrmfw\n%-50s", "")
	for _, state := range states {
		fmt.Fprintf(&b, "%9s", state)
	}
	for _, f := range lab.Families {
		for _, l := range n.leaks(t, f) {
			name := fmt.Sprintf("%v %s", f, l.name)
			fmt.Fprintf(&b, "\n%-50s", name)
			for _, state := range states {
				fmt.Fprintf(&b, "%9s", fmt.Sprintf("%d → %d", left["without "+state][name], left["with "+state][name]))
			}
		}
	}
	t.Log(b.String())
}

// sendOne sends one datagram; the zero src lets the kernel choose.
func sendOne(src, dst netip.AddrPort, payload string) error {
	var local *net.UDPAddr
	if src.IsValid() {
		local = net.UDPAddrFromAddrPort(src)
	}
	conn, err := net.DialUDP("udp", local, net.UDPAddrFromAddrPort(dst))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(payload))
	return err
}
