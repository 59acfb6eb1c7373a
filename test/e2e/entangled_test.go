package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// entangled is a network with tunnels that overlap in many ways at once:
//
//	site    moon's network with sun's, as ever
//	inside  mallory's with sun's: a part of moon's network, with another peer
//	client  alice's second address with everything, by a tunnel of her own to sun that runs inside site; the selector is
//	        the outer address too, and her own network passes by it
//	pool    two addresses that mallory leases; a host of sun's network has them later
//	narrow  an address that mallory names, and that is not his
type entangled struct {
	*lab.Network
	wire, home *lab.Capture // the WAN, and alice's network
	site       map[lab.Family]lab.IPsec
	at         map[lab.Family]entangledSite
	port       uint16
}

// entangledSite are the addresses and inboxes of one family.
type entangledSite struct {
	inside, client, lease, pool, narrow, trick netip.Addr
	insideNet, poolNet                         netip.Prefix

	bob, sun, alice, homeMoon, outside    *lab.Inbox // at their ordinary addresses; outside is mallory's outer one
	toClient, toInside, toNarrow, tricked *lab.Inbox
	ofLease, ofPool                       *lab.Inbox // bob's, once he has these addresses
}

// chain are the policies and states of a tunnel with sun. Its outer packets may go
// through another tunnel.
type chain struct {
	reqid           uint32
	peer            *lab.Host
	local, remote   []netip.Prefix // of sun
	sunEnd, peerEnd netip.Addr
	priority        uint32
	around          *lab.Template // sun's way in of the tunnel around
	peerOwn         []lab.Policy
}

func (n *entangled) tunnels(f lab.Family) []chain {
	s := n.at[f]
	lan, all := n.Sun.InnerNet(f), everything(f)
	wan, mallory := n.Sun.Outer(f), n.Mallory.Outer(f)
	reqid := func(base uint32) uint32 { return base + uint32(f) }
	around := lab.Template{Src: n.Moon.Outer(f), Dst: wan, Reqid: n.site[f].Reqid}
	inside := []lab.Template{{Src: mallory, Dst: wan, Reqid: reqid(20)}}
	client := []lab.Template{{Src: s.client, Dst: n.Sun.Inner(f), Reqid: reqid(30)}}
	past := map[lab.Family]netip.Prefix{lab.IPv4: prefix("224.0.0.0/4"), lab.IPv6: prefix("ff00::/8")}[f]
	return []chain{
		{reqid: reqid(20), peer: n.Mallory, local: []netip.Prefix{lan}, remote: []netip.Prefix{s.insideNet}, sunEnd: wan, peerEnd: mallory, priority: 1000,
			peerOwn: []lab.Policy{{Dir: "out", Src: all, Dst: host(s.trick), Priority: 100, Templates: inside}}},
		{reqid: reqid(30), peer: n.Alice, local: []netip.Prefix{all}, remote: []netip.Prefix{host(s.client)}, sunEnd: n.Sun.Inner(f), peerEnd: s.client, priority: 900, around: &around,
			peerOwn: []lab.Policy{
				{Dir: "out", Src: host(s.client), Dst: n.Alice.InnerNet(f), Priority: 10}, {Dir: "in", Src: n.Alice.InnerNet(f), Dst: host(s.client), Priority: 10},
				{Dir: "out", Src: host(s.client), Dst: past, Priority: 10},
				{Dir: "out", Src: all, Dst: host(s.trick), Priority: 100, Templates: client},
			}},
		{reqid: reqid(40), peer: n.Mallory, local: []netip.Prefix{lan}, remote: []netip.Prefix{host(s.lease), host(s.pool)}, sunEnd: wan, peerEnd: mallory, priority: 800},
		{reqid: reqid(50), peer: n.Mallory, local: []netip.Prefix{lan}, remote: []netip.Prefix{host(s.narrow)}, sunEnd: wan, peerEnd: mallory, priority: 800},
	}
}

// up puts a tunnel into the kernels of both ends.
func (c chain) up(t *testing.T, sun *lab.Host) {
	t.Helper()
	in := lab.SA{Src: c.peerEnd, Dst: c.sunEnd, SPI: 0x1000*c.reqid + 1, Reqid: c.reqid}
	out := lab.SA{Src: c.sunEnd, Dst: c.peerEnd, SPI: 0x1000*c.reqid + 2, Reqid: c.reqid}
	inTemplates := []lab.Template{{Src: c.peerEnd, Dst: c.sunEnd, Reqid: c.reqid}}
	outTemplates := []lab.Template{{Src: c.sunEnd, Dst: c.peerEnd, Reqid: c.reqid}}
	var ours, theirs []lab.Policy
	for _, l := range c.local {
		for _, r := range c.remote {
			theirs = append(theirs,
				lab.Policy{Dir: "out", Src: r, Dst: l, Priority: c.priority, Templates: inTemplates},
				lab.Policy{Dir: "in", Src: l, Dst: r, Priority: c.priority, Templates: outTemplates})
		}
	}
	if c.around != nil {
		inTemplates = append(inTemplates, *c.around)
		outTemplates = append(outTemplates, lab.Template{Src: c.around.Dst, Dst: c.around.Src, Reqid: c.around.Reqid})
	}
	for _, l := range c.local {
		for _, r := range c.remote {
			ours = append(ours,
				lab.Policy{Dir: "in", Src: r, Dst: l, Priority: c.priority, Templates: inTemplates},
				lab.Policy{Dir: "fwd", Src: r, Dst: l, Priority: c.priority, Templates: inTemplates},
				lab.Policy{Dir: "out", Src: l, Dst: r, Priority: c.priority, Templates: outTemplates})
		}
	}
	for _, h := range []*lab.Host{sun, c.peer} {
		h.AddSAs(t, in, out)
	}
	sun.AddPolicies(t, ours...)
	c.peer.AddPolicies(t, append(theirs, c.peerOwn...)...)
}

func newEntangled(t *testing.T) *entangled {
	t.Helper()
	n := &entangled{Network: lab.NewNetwork(t), site: map[lab.Family]lab.IPsec{}, at: map[lab.Family]entangledSite{}}
	for _, f := range lab.Families {
		pick := func(v4, v6 string) string { return map[lab.Family]string{lab.IPv4: v4, lab.IPv6: v6}[f] }
		s := entangledSite{
			inside: addr(pick("10.1.0.130", "fd00:1::8000:0:0:130")), insideNet: prefix(pick("10.1.0.128/25", "fd00:1::8000:0:0:0/65")),
			client: addr(pick("10.1.0.20", "fd00:1::20")), lease: addr(pick("10.2.0.200", "fd00:2::200")),
			pool: addr(pick("10.60.0.7", "fd00:60::7")), poolNet: prefix(pick("10.60.0.1/24", "fd00:60::1/64")),
			narrow: addr(pick("198.51.100.53", "2001:db8:53::53")), trick: addr(pick("10.2.0.11", "fd00:2::11")),
		}
		n.site[f] = lab.IPsec{Inner: f, Reqid: 10 + uint32(f), Priority: 2000}
		n.Alice.IP(t, fmt.Sprintf("addr add %s dev eth0 %s", netip.PrefixFrom(s.client, n.Alice.InnerNet(f).Bits()), nodad(f)))
		n.Bob.IP(t, fmt.Sprintf("addr add %s dev eth0 %s", netip.PrefixFrom(s.trick, n.Bob.InnerNet(f).Bits()), nodad(f)))
		for _, a := range []netip.Addr{s.inside, s.lease, s.pool, s.narrow} {
			n.Mallory.IP(t, fmt.Sprintf("addr add %s dev lo", host(a)))
		}
		n.Mallory.IP(t, fmt.Sprintf("route add %s via %s", host(n.Alice.Inner(f)), n.Sun.Outer(f)), fmt.Sprintf("route add %s via %s", host(s.client), n.Sun.Outer(f)))
		for _, a := range []netip.Addr{s.pool, s.narrow} {
			n.Sun.IP(t, fmt.Sprintf("route add %s via %s", host(a), n.Mallory.Outer(f)))
		}
		at := func(h *lab.Host, a netip.Addr) *lab.Inbox { return h.ListenUDP(t, netip.AddrPortFrom(a, 7000)) }
		s.bob, s.sun, s.alice, s.homeMoon = at(n.Bob, n.Bob.Inner(f)), at(n.Sun, n.Sun.Inner(f)), at(n.Alice, n.Alice.Inner(f)), at(n.Moon, n.Moon.Inner(f))
		s.outside, s.toClient, s.toInside, s.toNarrow = at(n.Mallory, n.Mallory.Outer(f)), at(n.Alice, s.client), at(n.Mallory, s.inside), at(n.Mallory, s.narrow)
		s.tricked = at(n.Bob, s.trick)
		n.at[f] = s
	}
	n.wire, n.home = n.Wire(t), n.Moon.Capture(t, "lan0")
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range []*lab.Host{n.Moon, n.Sun, n.Alice} {
				t.Logf("%s: %s", h.Name, h.Run(t, "sh", "-c", "grep -v '0$' /proc/net/xfrm_stat; true"))
			}
			t.Logf("sun dropped %v, alice %v", drops(t, n.Sun), drops(t, n.Alice))
		}
	})
	return n
}

// A crossing is a packet that is sent in every state, and the place where it arrives.
type crossing struct {
	name string
	send func(payload string)
	to   *lab.Inbox
	// arrives are the states in which it does. clear are those in which it may be seen in clear: on the WAN as sun sends
	// it, or in alice's network as she does.
	arrives, clear []string
	// beyond tells that sun sends the packet on in clear after the tunnel.
	beyond bool
	// nested tells that it is ESP within ESP. With the offload a kernel that takes the outer layer off in GRO forgets it when
	// it meets the inner one (esp4_gro_receive resets the path), and then refuses the packet: it may or may not arrive. An
	// attack then shows the inner tunnel alone, and may be met by our rules where the kernel's own check would stop it.
	nested bool
	// counted is the case that our rules take it for, in the states in which they meet it.
	counted string
	meets   []string
}

// crossings are those of one family.
func (n *entangled) crossings(t *testing.T, f lab.Family) []crossing {
	s := n.at[f]
	up := []string{stateUp, stateOffload}
	down := []string{stateFlushed, stateMemory, stateBoot}
	applied := []string{stateMemory, stateBoot}
	upAndApplied := append(slices.Clone(up), applied...)
	every := append(append([]string{stateTrap}, up...), down...)
	alice, bob, sun, mallory := n.Alice.Inner(f), n.Bob.Inner(f), n.Sun.Inner(f), n.Mallory.Outer(f)
	from := func(h *lab.Host, src netip.Addr, to *lab.Inbox) func(string) {
		return func(payload string) {
			_ = h.Do(func() error { return sendOne(netip.AddrPortFrom(src, n.port), to.Addr, payload) })
		}
	}
	raw := func(h *lab.Host, src netip.Addr, to *lab.Inbox) func(string) {
		return func(payload string) {
			_ = h.TryRaw(lab.UDPPacket(netip.AddrPortFrom(src, n.port), to.Addr, payload)) // without a state it is refused
		}
	}
	all := []crossing{
		// Nested selectors of two tunnels.
		{name: "site, in", send: from(n.Alice, alice, s.bob), to: s.bob, arrives: up, counted: "spoof", meets: down},
		{name: "site, out", send: from(n.Bob, bob, s.alice), to: s.alice, arrives: up},
		{name: "inside, in", send: from(n.Mallory, s.inside, s.bob), to: s.bob, arrives: up, counted: "spoof", meets: down},
		{name: "inside, out", send: from(n.Bob, bob, s.toInside), to: s.toInside, arrives: up},
		{name: "site's address in clear", send: raw(n.Mallory, alice, s.bob), to: s.bob, counted: "spoof", meets: every},
		{name: "inside's address in clear", send: raw(n.Mallory, s.inside, s.bob), to: s.bob, counted: "spoof", meets: every},
		{name: "site's address in clear to the gateway", send: raw(n.Mallory, alice, s.sun), to: s.sun, counted: "spoof", meets: every},
		{name: "inside's address out of site", send: raw(n.Alice, s.inside, s.bob), to: s.bob, nested: true},
		{name: "site's address out of inside", send: raw(n.Mallory, alice, s.tricked), to: s.tricked, counted: "crossed", meets: up},
		{name: "a near address to site", send: raw(n.Mallory, s.trick, s.alice), to: s.alice, counted: "inject", meets: every},
		// Nested SAs, and the client of everything.
		{name: "client, in", send: from(n.Alice, s.client, s.bob), to: s.bob, arrives: up, clear: applied, nested: true},
		{name: "client, out", send: from(n.Bob, bob, s.toClient), to: s.toClient, arrives: up, nested: true},
		{name: "client to the internet", send: from(n.Alice, s.client, s.outside), to: s.outside, arrives: upAndApplied, clear: applied, beyond: true, nested: true},
		{name: "client to its neighbour", send: from(n.Alice, s.client, s.homeMoon), to: s.homeMoon, arrives: every, clear: every},
		{name: "neighbour to the client", send: from(n.Moon, n.Moon.Inner(f), s.toClient), to: s.toClient, arrives: every, clear: every},
		{name: "site's address out of client", send: raw(n.Alice, alice, s.tricked), to: s.tricked, nested: true},
		{name: "client's address in clear", send: raw(n.Mallory, s.client, s.bob), to: s.bob, counted: "spoof", meets: every},
		// An address of a pool that becomes a host's.
		{name: "lease, in", send: from(n.Mallory, s.lease, s.sun), to: s.sun, arrives: upAndApplied, counted: "spoof", meets: []string{stateFlushed}},
		{name: "pool, in", send: from(n.Mallory, s.pool, s.sun), to: s.sun, arrives: upAndApplied, counted: "spoof", meets: []string{stateFlushed}},
		// The address that a peer names.
		{name: "narrow, in", send: from(n.Mallory, s.narrow, s.bob), to: s.bob, arrives: upAndApplied},
		{name: "narrow, out", send: from(n.Bob, bob, s.toNarrow), to: s.toNarrow, arrives: upAndApplied, clear: applied},
		// Traffic of no tunnel.
		{name: "mallory as himself", send: from(n.Mallory, mallory, s.bob), to: s.bob, arrives: every, clear: every},
		{name: "to mallory", send: from(n.Bob, bob, s.outside), to: s.outside, arrives: every, clear: every},
	}
	if s.ofLease != nil {
		all = append(all,
			crossing{name: "lease, now a host's", send: func(p string) { _ = s.ofLease.Send(s.sun.Addr, p) }, to: s.sun, arrives: down},
			crossing{name: "to the lease, now a host's", send: from(n.Sun, sun, s.ofLease), to: s.ofLease, arrives: down})
	}
	if s.ofPool != nil {
		all = append(all,
			crossing{name: "pool, now a host's", send: func(p string) { _ = s.ofPool.Send(s.sun.Addr, p) }, to: s.sun, arrives: applied},
			crossing{name: "to the pool, now a host's", send: from(n.Sun, sun, s.ofPool), to: s.ofPool, arrives: applied})
	}
	return all
}

// enter takes all tunnels from the state before into the next.
func (n *entangled) enter(t *testing.T, state string) {
	t.Helper()
	ends := []*lab.Host{n.Moon, n.Sun, n.Alice, n.Mallory}
	switch state {
	case stateUp:
		for _, f := range lab.Families {
			n.Up(t, n.site[f])
		}
		n.Sun.MustXfrmfw(t, "apply") // site is up before the tunnel that runs inside it
		for _, f := range lab.Families {
			for _, c := range n.tunnels(f) {
				c.up(t, n.Sun)
			}
		}
		n.Sun.MustXfrmfw(t, "apply")
		n.Alice.MustXfrmfw(t, "apply")
	case stateOffload:
		n.EnableGRO(t)
		lab.LoadESPOffload(t)
		n.Sun.MustXfrmfw(t, "apply")
		n.Alice.MustXfrmfw(t, "apply")
	case stateTrap:
		for _, h := range ends {
			h.FlushSAs(t)
		}
		n.Sun.MustXfrmfw(t, "apply")
		n.Alice.MustXfrmfw(t, "apply")
	case stateFlushed:
		for _, h := range ends {
			h.FlushXFRM(t)
		}
		for _, f := range lab.Families {
			s := n.at[f]
			n.Bob.IP(t, fmt.Sprintf("addr add %s dev eth0 %s", netip.PrefixFrom(s.lease, n.Bob.InnerNet(f).Bits()), nodad(f)))
			s.ofLease = n.Bob.ListenUDP(t, netip.AddrPortFrom(s.lease, 7000))
			n.at[f] = s
		}
	case stateMemory:
		for _, f := range lab.Families {
			s := n.at[f]
			n.Sun.IP(t, fmt.Sprintf("route del %s", host(s.pool)), fmt.Sprintf("addr add %s dev lan0 %s", s.poolNet, nodad(f)))
			n.Bob.IP(t, fmt.Sprintf("addr add %s dev eth0 %s", netip.PrefixFrom(s.pool, s.poolNet.Bits()), nodad(f)))
			s.ofPool = n.Bob.ListenUDP(t, netip.AddrPortFrom(s.pool, 7000))
			n.at[f] = s
		}
		n.Sun.MustXfrmfw(t, "apply")
		n.Alice.MustXfrmfw(t, "apply")
	case stateBoot:
		boots(t, n.Sun)
	}
}

// travel sends every crossing in one state, those that are to be stopped first, and fails
// the test for each wrong one.
func (n *entangled) travel(t *testing.T, state string) {
	t.Helper()
	payload := func(f lab.Family, c crossing) string { return fmt.Sprintf("[%s %v %s]", state, f, c.name) }
	each := func(do func(lab.Family, crossing)) {
		for _, f := range lab.Families {
			for _, c := range n.crossings(t, f) {
				do(f, c)
			}
		}
	}
	unsure := func(c crossing) bool { return c.nested && state == stateOffload && c.arrives != nil }
	perhaps := 0 // counted as crossed, or stopped by the kernel
	before := drops(t, n.Sun)
	counted := map[string]int{}
	each(func(f lab.Family, c crossing) {
		if unsure(c) || !slices.Contains(c.arrives, state) {
			for range perAttack {
				c.send(payload(f, c))
			}
			if slices.Contains(c.meets, state) {
				counted[c.counted] += perAttack
			}
			if c.nested && c.arrives == nil && state == stateOffload {
				perhaps += perAttack
			}
		}
	})
	each(func(f lab.Family, c crossing) {
		if slices.Contains(c.arrives, state) && !unsure(c) {
			lab.Eventually(t, lab.Patience, func() error {
				c.send(payload(f, c))
				if c.to.Count(payload(f, c)) == 0 {
					return fmt.Errorf("%s, %v: %s: does not arrive", state, f, c.name)
				}
				return nil
			})
		}
	})
	each(func(f lab.Family, c crossing) {
		if got := c.to.Count(payload(f, c)); got != 0 && !slices.Contains(c.arrives, state) {
			t.Errorf("%s, %v: %s: %d arrived", state, f, c.name, got)
		}
		if slices.Contains(c.clear, state) {
			return
		}
		for name, capture := range map[string]*lab.Capture{"sun0": n.wire, "lan0": n.home} {
			if name == "sun0" && c.beyond {
				continue
			}
			if got := capture.Count(t, func(frame lab.Frame) bool {
				return frame.Link == name && !frame.Outgoing && frame.Src != n.Alice.Inner(f) && frame.Src != n.at[f].inside && strings.Contains(string(frame.Payload), payload(f, c))
			}); got != 0 {
				t.Errorf("%s, %v: %s: %d in clear on %s", state, f, c.name, got, name)
			}
		}
	})
	if state == stateOffload {
		each(func(f lab.Family, c crossing) {
			if unsure(c) {
				t.Logf("%v: %s: ESP within ESP, with the offload: %d of %d arrived", f, c.name, c.to.Count(payload(f, c)), perAttack)
			}
		})
		t.Logf("sun's kernel: %s", n.Sun.Run(t, "grep", "Tmpl", "/proc/net/xfrm_stat"))
	}
	after := drops(t, n.Sun)
	live := state == stateUp || state == stateOffload
	for name := range after { // while the tunnels are up nothing else is dropped
		most := counted[name]
		if name == "crossed" {
			most += perhaps
		}
		if got := after[name] - before[name]; got < counted[name] || live && got > most {
			t.Errorf("%s: %d packets were counted as %s, want %d", state, got, name, counted[name])
		}
	}
	if live {
		if d := drops(t, n.Alice); d["spoof"]+d["leak"]+d["crossed"]+d["inject"] != 0 {
			t.Errorf("%s: alice dropped %v", state, d)
		}
	}
}

// TestEntangledTunnels sends through, past and around tunnels that overlap, in every state.
func TestEntangledTunnels(t *testing.T) {
	lab.RunIn(t, lab.Oldest)
	n := newEntangled(t)
	for i, state := range []string{stateUp, stateOffload, stateTrap, stateFlushed, stateMemory, stateBoot} {
		n.port = 7100 + uint16(i)
		n.enter(t, state)
		n.travel(t, state)
	}
}
