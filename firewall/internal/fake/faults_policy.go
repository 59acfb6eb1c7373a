package fake

import (
	"fmt"
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// except adds a bypass policy for each direction.
func (g *faultHost) except(local, remote string, priority uint32, mark xfrm.Mark, dirs ...xfrm.Dir) {
	l, r := netip.MustParsePrefix(local), netip.MustParsePrefix(remote)
	for _, dir := range dirs {
		p := xfrm.Policy{
			Dir: dir, Priority: priority, Mark: mark, Index: uint32(8*(1+len(g.s.Policies))) + uint32(dir),
			Selector: xfrm.Selector{Family: xfrm.IPv4, Src: r, Dst: l},
		}
		if dir == xfrm.Out {
			p.Selector.Src, p.Selector.Dst = l, r
		}
		g.s.Policies = append(g.s.Policies, p)
	}
}

// policyFaults are packets beside policies that are not the plain three of a tunnel.
func policyFaults() []Fault {
	const any = "0.0.0.0/0"
	marked := func(p firewall.Passage, mark uint32) firewall.Passage {
		p.Mark = mark
		return p
	}
	site := connection{reqid: 1, peer: moonWAN, local: "10.2.0.0/24", remote: moonLAN, mode: xfrm.TunnelMode, priority: 2000}
	in, out := through("eth0", "eth1", "10.1.0.10", "10.2.0.10"), through("eth1", "eth0", "10.2.0.10", "10.1.0.10")

	chosen := newFaultHost()
	for mark, dirs := range map[uint32][]xfrm.Dir{7: {xfrm.In, xfrm.Fwd}, 8: {xfrm.Out}} {
		chosen.connect(connection{reqid: 1, peer: moonWAN, local: any, remote: any, mode: xfrm.TunnelMode, mark: xfrm.Mark{Value: mark, Mask: 0xff}, dirs: dirs})
	}
	all := []Fault{
		chosen.fault("policies chosen by a mark: a packet without it goes out", through("eth1", "eth0", "10.2.0.10", "198.51.100.9"), firewall.Leave, firewall.Case9),
		chosen.fault("policies chosen by a mark: a packet in clear comes in", toHost("eth0", "198.51.100.9", "192.0.2.2"), firewall.Leave, firewall.Case9),
		chosen.fault("policies chosen by a mark: out of the tunnel", outOf(1, xfrm.TunnelMode, moonWAN, through("eth0", "eth1", "10.1.0.10", "10.2.0.10")), firewall.Admit, firewall.Case1),
	}

	bypass := newFaultHost()
	bypass.connect(site)
	bypass.except(any, any, 1, xfrm.Mark{Value: 9, Mask: 0xff}, xfrm.In, xfrm.Out, xfrm.Fwd)
	all = append(all,
		bypass.fault("bypass by a mark: out with the mark", marked(out, 9), firewall.Leave, firewall.Case9),
		bypass.fault("bypass by a mark: out without it", out, firewall.Refuse, firewall.Case8),
		bypass.fault("bypass by a mark: out with another", marked(out, 8), firewall.Refuse, firewall.Case8),
		bypass.fault("bypass by a mark: in with the mark", marked(in, 0x109), firewall.Leave, firewall.Case9),
		bypass.fault("bypass by a mark: in without it", in, firewall.Discard, firewall.Case6))

	one := newFaultHost()
	one.connect(site)
	one.except("10.2.0.0/24", "10.1.0.0/25", 1, xfrm.Mark{}, xfrm.In)
	here := toHost("eth0", "10.1.0.10", "10.2.0.1")
	all = append(all,
		one.fault("bypass for dir in alone: to the host", here, firewall.Leave, firewall.Case9),
		one.fault("bypass for dir in alone: forwarded", in, firewall.Discard, firewall.Case6))
	two := newFaultHost()
	two.connect(site)
	two.except("10.2.0.0/24", "10.1.0.0/25", 1, xfrm.Mark{}, xfrm.Fwd)
	all = append(all,
		two.fault("bypass for dir fwd alone: to the host", here, firewall.Discard, firewall.Case6),
		two.fault("bypass for dir fwd alone: forwarded", in, firewall.Leave, firewall.Case9))

	group := newFaultHost()
	group.s.Policies = append(group.s.Policies, xfrm.Policy{
		Dir: xfrm.Out, Priority: 3850497, Index: 9, Selector: xfrm.Selector{Family: xfrm.IPv4, Src: netip.MustParsePrefix("192.0.2.2/32"), Dst: netip.MustParsePrefix(any)},
		Templates: []xfrm.Template{{Family: xfrm.IPv4, Src: netip.IPv4Unspecified(), Dst: netip.IPv4Unspecified(), Proto: xfrm.ESP, Mode: xfrm.TransportMode}},
	})
	group.except("192.0.2.2/32", "198.51.100.66/32", 3850240, xfrm.Mark{}, xfrm.Out)
	all = append(all,
		group.fault("opportunistic: in from a host without IPsec", toHost("eth0", "198.51.100.66", "192.0.2.2"), firewall.Leave, firewall.Case9),
		group.fault("opportunistic: out to it", fromHost("eth0", "192.0.2.2", "198.51.100.66"), firewall.Leave, firewall.Case9),
		group.fault("opportunistic: in from a host that was not asked yet", toHost("eth0", "198.51.100.67", "192.0.2.2"), firewall.Leave, firewall.Case9))

	all = append(all, equalPriorityFaults(in, out)...)
	all = append(all, blockAndUseFaults(in, out)...)

	for priority, want := range map[uint32]firewall.Verdict{1000: {Action: firewall.Leave, Case: firewall.Case9}, 3000: {Action: firewall.Refuse, Case: firewall.Case8d}} {
		virtual := newFaultHost()
		virtual.connect(connection{reqid: 1, peer: moonWAN, local: "10.9.9.9/32", remote: "10.0.0.0/8", mode: xfrm.TunnelMode, priority: 2000, down: true})
		virtual.except("10.2.0.0/24", moonLAN, priority, xfrm.Mark{}, xfrm.In, xfrm.Out, xfrm.Fwd)
		all = append(all, virtual.fault(fmt.Sprintf("a bypass of priority %d beside a tunnel without a source here, which is down: out", priority), out, want.Action, want.Case))
	}
	host := func(reqid uint32, peer string) connection {
		return connection{reqid: reqid, peer: peer, local: "192.0.2.2/32", remote: peer + "/32", mode: xfrm.TransportMode}
	}
	manual := newFaultHost()
	manual.connect(host(0, moonWAN))
	from := func(reqid uint32, peer, src string) firewall.Passage {
		return outOf(reqid, xfrm.TransportMode, peer, toHost("eth0", src, "192.0.2.2"))
	}
	all = append(all,
		manual.fault("transport mode with reqid 0: out of the one peer's states", from(0, moonWAN, moonWAN), firewall.Admit, firewall.Case1),
		manual.fault("transport mode with reqid 0: from another address", from(0, moonWAN, rainWAN), firewall.Discard, firewall.Case7))
	several := newFaultHost()
	several.connect(host(5, moonWAN))
	several.connect(host(5, rainWAN))
	all = append(all, several.fault("one reqid for several hosts in transport mode: not verified", from(5, rainWAN, moonWAN), firewall.Leave, firewall.Case7b))
	outward := newFaultHost()
	c := host(6, moonWAN)
	c.proto, c.remotePort, c.dirs = xfrm.UDP, 4789, []xfrm.Dir{xfrm.Out}
	outward.connect(c)
	carrier := from(6, moonWAN, moonWAN)
	carrier.Proto, carrier.Received.DPort = xfrm.UDP, 4789
	carrier.AfterDNAT, carrier.Sent = carrier.Received, carrier.Received
	return append(all, outward.fault("a policy for dir out alone: what comes in is told by its hosts", carrier, firewall.Admit, firewall.Case1))
}

// blockAndUseFaults are packets of a tunnel's pair that a block policy comes before, which
// disable_policy switches off, and of pairs with policies that ask for no SA.
func blockAndUseFaults(in, out firewall.Passage) []Fault {
	site := connection{reqid: 1, peer: moonWAN, local: "10.2.0.0/24", remote: "10.1.0.0/16", mode: xfrm.TunnelMode, priority: 2000}
	block := newFaultHost()
	block.connect(site)
	block.except("10.2.0.0/24", moonLAN, 1, xfrm.Mark{}, xfrm.In, xfrm.Out, xfrm.Fwd)
	for i := range block.s.Policies {
		if p := &block.s.Policies[i]; p.Priority == 1 {
			p.Action = xfrm.Block
		}
	}
	other, back := through("eth0", "eth1", "10.1.9.9", "10.2.0.10"), through("eth1", "eth0", "10.2.0.10", "10.1.9.9")
	all := []Fault{
		block.fault("a block policy in front of the tunnel: in, which no kernel may check", in, firewall.Discard, firewall.Case6),
		block.fault("a block policy in front of the tunnel: out", out, firewall.Refuse, firewall.Case8),
	}
	use := newFaultHost()
	use.connect(site)
	one := site
	one.remote, one.priority, one.optional = moonLAN, 1000, true
	use.connect(one)
	all = append(all,
		use.fault("level use beside a required pair: in", in, firewall.Leave, firewall.Case9),
		use.fault("level use beside a required pair: out", out, firewall.Leave, firewall.Case9),
		use.fault("a required pair beside level use: in", other, firewall.Discard, firewall.Case6),
		use.fault("a required pair beside level use: out", back, firewall.Refuse, firewall.Case8))
	inward := newFaultHost()
	required := site
	one = site
	one.dirs, one.optional, required.dirs = []xfrm.Dir{xfrm.In, xfrm.Fwd}, true, []xfrm.Dir{xfrm.Out}
	inward.connect(required)
	inward.connect(one)
	return append(all,
		inward.fault("level use for inbound packets alone: in", in, firewall.Leave, firewall.Case9),
		inward.fault("level use for inbound packets alone: out", out, firewall.Refuse, firewall.Case8))
}

// equalPriorityFaults are packets that a tunnel's policies and narrower exceptions of the
// same priority both cover: the older ones decide, as in the kernel.
func equalPriorityFaults(in, out firewall.Passage) []Fault {
	wide := connection{reqid: 1, peer: moonWAN, local: "10.2.0.0/24", remote: "10.1.0.0/16", mode: xfrm.TunnelMode}
	narrow := func(g *faultHost) { g.except("10.2.0.0/24", moonLAN, 0, xfrm.Mark{}, xfrm.In, xfrm.Out, xfrm.Fwd) }
	tunnel, bypass := newFaultHost(), newFaultHost()
	tunnel.connect(wide)
	narrow(tunnel)
	narrow(bypass)
	bypass.connect(wide)
	all := []Fault{
		tunnel.fault("equal priority: the tunnel is older, out", out, firewall.Refuse, firewall.Case8),
		tunnel.fault("equal priority: the tunnel is older, in", in, firewall.Discard, firewall.Case6),
		bypass.fault("equal priority: the bypass is older, out", out, firewall.Leave, firewall.Case9),
		bypass.fault("equal priority: the bypass is older, in", in, firewall.Leave, firewall.Case9),
	}
	for _, g := range []*faultHost{tunnel, bypass} {
		input := g.input()
		g.guards = guard.Remember(nil, guard.Live(input.Set, input.Host), input.Set, input.Host, nil, guard.Config{}, 1).Guards
		g.s.Policies, g.s.States = nil, nil
	}
	return append(all,
		tunnel.fault("equal priority: the tunnel was older, out", out, firewall.Refuse, firewall.Case8),
		tunnel.fault("equal priority: the tunnel was older, in", in, firewall.Discard, firewall.Case6),
		bypass.fault("equal priority: the bypass was older, out", out, firewall.Leave, firewall.Case9),
		bypass.fault("equal priority: the bypass was older, in", in, firewall.Leave, firewall.Case9))
}
