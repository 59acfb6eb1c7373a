package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// The states of a tunnel in which the guards have to hold. An IKE daemon that was killed leaves its SAs and policies in
// the kernel, which is the first, and later the second.
const (
	stateUp      = "up"
	stateOffload = "offload" // up, with ESP decrypted before netfilter sees it; the modules stay loaded in the later states
	stateTrap    = "trap"    // policies, and no SA
	stateFlushed = "flushed" // neither
	stateMemory  = "memory"  // neither, and xfrmfw was applied since
	stateBoot    = "boot"    // neither; the gateway came up again, and xfrmfw was applied before IKE
)

// boots takes from a gateway without SAs and policies everything that a reboot takes, and
// then runs the commands of the boot. The entries of conntrack stay, which only makes it
// harder.
func boots(t *testing.T, h *lab.Host) {
	t.Helper()
	h.MustXfrmfw(t, "clear")
	if err := os.RemoveAll(h.RunDir()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(h.RunDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	h.MustXfrmfw(t, "apply")
}

// perAttack is how many packets an attacker sends of each kind.
const perAttack = 3

// An attack is a packet of mallory's from the WAN, through sun or to it. The kernel's
// policies do let a port-forwarded one pass while the tunnel is up, because the kernel
// compares the addresses from before DNAT.
type attack struct {
	name string
	// naked are the states in which it arrives where nothing but the kernel protects.
	naked []string
	// counted are the states, by counter, in which our rule meets it before the kernel's own check, which comes before
	// FORWARD and after INPUT.
	counted map[string][]string
	send    func(payload string)
}

// battlefield is a network with an attacker in both families. The attacker is also a peer
// of sun's with a tunnel of his own.
type battlefield struct {
	*lab.Network
	tunnels []lab.IPsec
	boxes   []*lab.Inbox
	lan     *lab.Capture
	port    uint16 // each phase has its own ports, and so its own flows
}

// site are the addresses of the battlefield in one family.
type site struct {
	f                 lab.Family
	alice, bob, sun   netip.Addr // inner
	wan, mallory      netip.Addr // outer: sun's, and the attacker's
	far               netip.Addr // alice's second address, to which the attacker goes through sun
	near              netip.Addr // an address of bob's network that the attacker takes
	own               netip.Addr // bob's second address, with which mallory has a tunnel
	claimed, rightful netip.Prefix
}

func (n *battlefield) site(f lab.Family) site {
	s := site{f: f, alice: n.Alice.Inner(f), bob: n.Bob.Inner(f), sun: n.Sun.Inner(f), wan: n.Sun.Outer(f), mallory: n.Mallory.Outer(f)}
	if f == lab.IPv4 {
		s.far, s.near, s.own = addr("10.1.0.11"), addr("10.2.0.66"), addr("10.2.0.11")
		s.claimed, s.rightful = prefix("10.1.0.64/26"), prefix("10.3.0.0/24")
	} else {
		s.far, s.near, s.own = addr("fd00:1::11"), addr("fd00:2::66"), addr("fd00:2::11")
		s.claimed, s.rightful = prefix("fd00:1::40/122"), prefix("fd00:3::/64")
	}
	return s
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func host(a netip.Addr) netip.Prefix {
	return netip.PrefixFrom(a, a.BitLen())
}

func newBattlefield(t *testing.T) *battlefield {
	t.Helper()
	n := &battlefield{Network: lab.NewNetwork(t), tunnels: []lab.IPsec{{}, {Inner: lab.IPv6, Reqid: 12}}}
	for _, f := range lab.Families {
		s := n.site(f)
		bits := map[lab.Family]string{lab.IPv4: "/24", lab.IPv6: "/64 nodad"}[f]
		n.Alice.IP(t, fmt.Sprintf("addr add %s%s dev eth0", s.far, bits))
		n.Bob.IP(t, fmt.Sprintf("addr add %s%s dev eth0", s.own, bits))
		n.Mallory.IP(t, fmt.Sprintf("route add %s via %s", s.far, s.wan))
		for _, at := range []struct {
			h *lab.Host
			a netip.Addr
		}{{n.Bob, anyAddr(f)}, {n.Alice, anyAddr(f)}, {n.Sun, anyAddr(f)}} {
			n.boxes = append(n.boxes, at.h.ListenUDP(t, netip.AddrPortFrom(at.a, 7000)))
		}
		// Another program's rules may look like these: a port-forward, marks saved per
		// flow, and replies accepted.
		n.Sun.Iptables(t, f, "-t", "nat", "-A", "PREROUTING", "-d", s.wan.String(), "-p", "udp", "--dport", "7100",
			"-j", "DNAT", "--to-destination", netip.AddrPortFrom(s.bob, 7000).String())
		n.Sun.Iptables(t, f, "-t", "nat", "-A", "PREROUTING", "-d", s.wan.String(), "-p", "udp", "--dport", "7101",
			"-j", "DNAT", "--to-destination", netip.AddrPortFrom(s.far, 7000).String())
		n.Sun.Rules(t, f, "mangle", "-A PREROUTING -j CONNMARK --restore-mark", "-A POSTROUTING -j CONNMARK --save-mark")
		n.Sun.Rules(t, f, "filter", "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
	}
	n.Sun.Sysctl(t, "net/netfilter/nf_conntrack_udp_timeout=3600", "net/netfilter/nf_conntrack_udp_timeout_stream=3600")
	n.lan = n.Bob.Capture(t, "eth0")
	return n
}

func anyAddr(f lab.Family) netip.Addr {
	if f == lab.IPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// peerUp gives mallory a tunnel of his own to bob's second address. Its policies on sun
// let him claim some of alice's network too.
func (n *battlefield) peerUp(t *testing.T) {
	t.Helper()
	for _, f := range lab.Families {
		s := n.site(f)
		reqid := uint32(20 + f)
		toSun := lab.SA{Src: s.mallory, Dst: s.wan, SPI: 0x1000 * reqid, Reqid: reqid}
		toMallory := lab.SA{Src: s.wan, Dst: s.mallory, SPI: 0x1000*reqid + 1, Reqid: reqid}
		n.Mallory.AddSAs(t, toSun, toMallory)
		n.Sun.AddSAs(t, toSun, toMallory)
		inbound := []lab.Template{{Src: s.mallory, Dst: s.wan, Reqid: reqid}}
		outbound := []lab.Template{{Src: s.wan, Dst: s.mallory, Reqid: reqid}}
		n.Mallory.AddPolicies(t, lab.Policy{Dir: "out", Src: everything(f), Dst: host(s.own), Templates: inbound})
		for _, remote := range []netip.Prefix{s.rightful, s.claimed} {
			n.Sun.AddPolicies(t,
				lab.Policy{Dir: "in", Src: remote, Dst: host(s.own), Priority: 9000, Templates: inbound},
				lab.Policy{Dir: "fwd", Src: remote, Dst: host(s.own), Priority: 9000, Templates: inbound},
				lab.Policy{Dir: "out", Src: host(s.own), Dst: remote, Priority: 9000, Templates: outbound})
		}
	}
}

func everything(f lab.Family) netip.Prefix { return netip.PrefixFrom(anyAddr(f), 0) }

// apply runs xfrmfw on sun, with mallory's tunnel in the configuration as its
// administrator knows it.
func (n *battlefield) apply(t *testing.T) {
	t.Helper()
	var b strings.Builder
	b.WriteString("tunnels:\n")
	for _, f := range lab.Families {
		s := n.site(f)
		fmt.Fprintf(&b, "  - match: {peer: %q}\n    name: mallory%d\n    remote: [%q]\n", s.mallory, f, s.rightful)
	}
	if err := os.WriteFile(filepath.Join(n.Sun.EtcDir(), "xfrmfw.yaml"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Sun.MustXfrmfw(t, "apply")
}

// flows sets up two flows inside the tunnels for conntrack to remember: one of bob's and
// one of alice's.
func (n *battlefield) flows(t *testing.T) {
	t.Helper()
	for _, f := range lab.Families {
		s := n.site(f)
		alice := n.Alice.ListenUDP(t, netip.AddrPortFrom(s.alice, 7200+n.port))
		bob := n.Bob.ListenUDP(t, netip.AddrPortFrom(s.bob, 7300+n.port))
		n.boxes = append(n.boxes, bob)
		for _, way := range []struct {
			from, to *lab.Inbox
		}{{bob, alice}, {alice, bob}} {
			payload := "flow" + fmt.Sprint(n.port)
			lab.Eventually(t, lab.Patience, func() error {
				if err := way.from.Send(way.to.Addr, payload); err != nil {
					return err
				}
				if way.to.Count(payload) == 0 {
					return fmt.Errorf("no datagram from %v has reached %v", way.from.Addr, way.to.Addr)
				}
				return nil
			})
		}
		flow := n.Alice.ListenUDP(t, netip.AddrPortFrom(s.alice, 7400+n.port))
		lab.Eventually(t, lab.Patience, func() error {
			if err := flow.Send(bob.Addr, "marked"+fmt.Sprint(n.port)); err != nil {
				return err
			}
			if bob.Count("marked"+fmt.Sprint(n.port)) == 0 {
				return fmt.Errorf("no datagram from %v has reached %v", flow.Addr, bob.Addr)
			}
			return nil
		})
	}
}

// attacks are those of one family.
func (n *battlefield) attacks(t *testing.T, f lab.Family) []attack {
	s := n.site(f)
	down := []string{stateFlushed, stateMemory, stateBoot}
	up := []string{stateUp, stateOffload}
	upAndDown := slices.Concat(up, down)
	always := append([]string{stateTrap}, upAndDown...)
	udp := func(src netip.Addr, srcPort uint16, dst netip.Addr, dstPort uint16) func(string) {
		return func(payload string) {
			n.Mallory.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(src, srcPort), netip.AddrPortFrom(dst, dstPort), payload).Times(perAttack)...)
		}
	}
	as := func(drop string, seen []string) map[string][]string { return map[string][]string{drop: seen} }
	quoted := down
	if lab.Kernel() == "6.1" { // later ones ask the policies about the packet that an error quotes
		quoted = always
	}
	all := []attack{
		{"spoofed source to a LAN host", down, as("spoof", always), udp(s.alice, 7001+n.port, s.bob, 7000)},
		{"spoofed source to the gateway", down, as("spoof", always), udp(s.alice, 7001+n.port, s.sun, 7000)},
		{"spoofed source through a port-forward", always, as("spoof", always), udp(s.alice, 7002+n.port, s.wan, 7100)},
		{"spoofed near source to the far LAN", upAndDown, as("inject", always), udp(s.near, 7003+n.port, s.far, 7000)},
		{"spoofed near source through a port-forward to the far LAN", upAndDown, map[string][]string{"inject": up, "leak": down}, udp(s.near, 7007+n.port, s.wan, 7101)},
		{"ICMP error about an existing flow, from anywhere", quoted, as("spoof", always), func(payload string) {
			quoted := lab.UDPPacket(netip.AddrPortFrom(s.bob, 7300+n.port), netip.AddrPortFrom(s.alice, 7200+n.port), payload)
			n.Mallory.SendRaw(t, lab.TooBigPacket(s.mallory, quoted).Times(perAttack)...)
		}},
		{"clear reply to an existing flow", down, as("spoof", always), udp(s.alice, 7200+n.port, s.bob, 7300+n.port)},
		{"flow whose mark is restored", down, as("spoof", always), udp(s.alice, 7400+n.port, s.bob, 7300+n.port)},
		{"UDP from port 4500 to a LAN host", down, as("spoof", always), udp(s.alice, 4500, s.bob, 7000)},
		{"a peer with another tunnel's addresses", down, as("crossed", always), udp(s.claimed.Addr().Next(), 7006+n.port, s.own, 7000)},
	}
	if f == lab.IPv6 {
		all = append(all, attack{"neighbour discovery to a LAN host", down, as("spoof", always), func(payload string) {
			body := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, payload...)
			n.Mallory.SendRaw(t, lab.IPPacket(s.alice, s.bob, 58, body).Times(perAttack)...)
		}})
	}
	return all
}

// arrived is how many packets with a payload have come to anybody.
func (n *battlefield) arrived(t *testing.T, payload string) int {
	t.Helper()
	count := 0
	for _, box := range n.boxes {
		count += box.Count(payload)
	}
	return count + n.lan.Count(t, func(f lab.Frame) bool {
		return !f.Outgoing && (f.Proto == 1 || f.Proto == 58) && strings.HasSuffix(string(f.Payload), payload)
	})
}

// barrier waits until all packets of mallory's so far have gone their way: those under
// his own address do arrive.
func (n *battlefield) barrier(t *testing.T, name string) {
	t.Helper()
	want := 0
	for _, f := range lab.Families {
		s := n.site(f)
		for _, dst := range []netip.Addr{s.bob, s.sun, s.far} {
			payload := fmt.Sprint("barrier ", name, dst)
			n.Mallory.SendRaw(t, lab.UDPPacket(netip.AddrPortFrom(s.mallory, 7009+n.port), netip.AddrPortFrom(dst, 7000), payload))
			want++
		}
	}
	lab.Eventually(t, lab.Patience, func() error {
		got := 0
		for _, box := range n.boxes {
			for _, d := range box.Datagrams() {
				if strings.HasPrefix(d.Payload, "barrier "+name) {
					got++
				}
			}
		}
		if got < want {
			return fmt.Errorf("%d of %d packets of mallory's own arrived", got, want)
		}
		return nil
	})
}

// strike sends all attacks in one state and returns how many packets of each arrived.
func (n *battlefield) strike(t *testing.T, phase, state string) map[string]int {
	t.Helper()
	name := func(f lab.Family, a attack) string { return fmt.Sprintf("%v %s", f, a.name) }
	payload := func(f lab.Family, a attack) string { return fmt.Sprintf("%s %s %v %s", phase, state, f, a.name) }
	for _, f := range lab.Families {
		for _, a := range n.attacks(t, f) {
			a.send(payload(f, a))
		}
	}
	n.barrier(t, phase+" "+state)
	got := make(map[string]int)
	for _, f := range lab.Families {
		for _, a := range n.attacks(t, f) {
			got[name(f, a)] = n.arrived(t, payload(f, a))
		}
	}
	return got
}

// drops are the counters of status with these options.
func drops(t *testing.T, h *lab.Host, words ...string) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	for name, d := range status(t, h, words...).Drops {
		counts[name] = d.Packets
	}
	return counts
}

// TestGuardsAgainstAttacks sends every attack in every state, first without xfrmfw and then with it. Nothing else
// protects sun: no reverse-path filter, default policy ACCEPT.
func TestGuardsAgainstAttacks(t *testing.T) {
	states := []string{stateUp, stateOffload, stateTrap, stateFlushed, stateMemory, stateBoot}
	n := newBattlefield(t)
	n.EnableGRO(t)
	arrived := map[string]map[string]int{}
	for _, phase := range []string{"without", "with"} {
		n.peerUp(t)
		for _, c := range n.tunnels {
			n.Up(t, c)
		}
		if phase == "with" {
			n.port += 10
			n.apply(t)
		}
		n.flows(t)
		for _, state := range states {
			if phase == "without" && (state == stateMemory || state == stateBoot) {
				arrived[phase+" "+state] = arrived[phase+" "+stateFlushed]
				continue
			}
			n.enter(t, phase, state)
			var before map[string]int
			if phase == "with" {
				before = drops(t, n.Sun)
			}
			got := n.strike(t, phase, state)
			arrived[phase+" "+state] = got
			if phase == "with" {
				n.judge(t, state, before, got)
			} else {
				n.judgeNaked(t, state, got)
			}
		}
		n.Mallory.FlushXFRM(t)
		n.Sun.FlushXFRM(t)
		lab.UnloadESPOffload(t)
	}
	n.logTable(t, states, arrived)
}

// enter takes the tunnels from the state before into the next.
func (n *battlefield) enter(t *testing.T, phase, state string) {
	t.Helper()
	switch state {
	case stateOffload:
		n.offload(t, phase)
	case stateMemory:
		n.Sun.MustXfrmfw(t, "apply")
	case stateBoot:
		boots(t, n.Sun)
	}
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
}

// offload loads the modules while the tunnels are up, and makes sure that they are in force.
func (n *battlefield) offload(t *testing.T, phase string) {
	t.Helper()
	lab.LoadESPOffload(t)
	if phase != "with" {
		return
	}
	n.apply(t)
	n.Alice.MustPing(t, n.Bob.Inner(lab.IPv4), 2)
	n.Alice.MustPing(t, n.Bob.Inner(lab.IPv6), 2)
	offloaded := 0
	for _, tunnel := range status(t, n.Sun).Tunnels {
		if tunnel.Evidence == "policy-only" && tunnel.PacketsBy.PolicyOnly >= 2 {
			offloaded++
		}
	}
	if offloaded < len(n.tunnels) {
		t.Fatalf("offload: %d tunnels of sun verify by the policy alone, want %d", offloaded, len(n.tunnels))
	}
}

// judgeNaked is that the attacks are real ones.
func (n *battlefield) judgeNaked(t *testing.T, state string, got map[string]int) {
	t.Helper()
	for _, f := range lab.Families {
		for _, a := range n.attacks(t, f) {
			want := 0
			if slices.Contains(a.naked, state) {
				want = perAttack
			}
			if name := fmt.Sprintf("%v %s", f, a.name); got[name] != want {
				t.Errorf("without xfrmfw, %s: %s: %d arrived, want %d", state, name, got[name], want)
			}
		}
	}
}

// judge is that no attack arrived, and that each was counted under its own case.
func (n *battlefield) judge(t *testing.T, state string, before, got map[string]int) {
	t.Helper()
	want := make(map[string]int)
	for _, f := range lab.Families {
		for _, a := range n.attacks(t, f) {
			if name := fmt.Sprintf("%v %s", f, a.name); got[name] != 0 {
				t.Errorf("with xfrmfw, %s: %s: %d arrived", state, name, got[name])
			}
			for drop, seen := range a.counted {
				if slices.Contains(seen, state) {
					want[drop] += perAttack
				}
			}
		}
	}
	after := drops(t, n.Sun)
	for _, drop := range []string{"spoof", "inject", "crossed", "leak"} {
		if counted := after[drop] - before[drop]; counted != want[drop] {
			t.Errorf("with xfrmfw, %s: %d packets were counted as %s, want %d", state, counted, drop, want[drop])
		}
	}
}

// logTable writes both columns of each state.
func (n *battlefield) logTable(t *testing.T, states []string, arrived map[string]map[string]int) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "\narrived of %d, without → with xfrmfw\n%-64s", perAttack, "")
	for _, state := range states {
		fmt.Fprintf(&b, "%10s", state)
	}
	for _, f := range lab.Families {
		for _, a := range n.attacks(t, f) {
			name := fmt.Sprintf("%v %s", f, a.name)
			fmt.Fprintf(&b, "\n%-64s", name)
			for _, state := range states {
				fmt.Fprintf(&b, "%10s", fmt.Sprintf("%d → %d", arrived["without "+state][name], arrived["with "+state][name]))
			}
		}
	}
	t.Log(b.String())
}
