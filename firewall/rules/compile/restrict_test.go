package compile

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

func restricted(t *testing.T, host xfrm.Host, tc firewall.TunnelConfig, sites ...sample.Site) world {
	t.Helper()
	tc.Match = firewall.Match{Reqid: 1}
	return compileWorld(t, snapshotOf(host, sites...), firewall.Config{Tunnels: []firewall.TunnelConfig{tc}})
}

func TestRestrictedIn(t *testing.T) {
	hub := sample.Site{Reqid: 2, Local: sunWAN, Remote: "198.51.100.1", Pairs: [][2]string{{"10.0.0.0/8", "10.5.0.0/24"}}}
	services := []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(22)}, {Proto: xfrm.UDP, Ports: firewall.Ports{Lo: 5000, Hi: 5010}}, {Proto: xfrm.ICMP}}
	w := restricted(t, sunHost(), firewall.TunnelConfig{In: services}, sunSite(), hub)
	packet := func(proto xfrm.Proto, port uint16, state rules.CtState) trace.Packet {
		p := tagged(from(1, "10.1.0.10", "10.2.0.10"))
		p.Proto, p.DPort, p.Ct.State, p.Out = proto, port, state, "eth1"
		return p
	}
	for _, tc := range []struct {
		name   string
		packet trace.Packet
		want   rules.Verb
	}{
		{"an allowed port", packet(xfrm.TCP, 22, 0), rules.Accept},
		{"within an allowed range", packet(xfrm.UDP, 5005, 0), rules.Accept},
		{"icmp", packet(xfrm.ICMP, 0, 0), rules.Accept},
		{"another port", packet(xfrm.TCP, 80, 0), rules.Drop},
		{"the port in another protocol", packet(xfrm.UDP, 22, 0), rules.Drop},
		{"of a flow that was allowed", packet(xfrm.TCP, 80, rules.CtEstablished), rules.Accept},
		{"an error about a flow that was allowed", packet(xfrm.ICMP, 0, rules.CtRelated), rules.Accept},
	} {
		for _, local := range []bool{false, true} {
			tc.packet.DstLocal = local
			got := w.arrive(tc.packet, nil)
			if got.final != tc.want || got.met(rules.PurposeRestricted) != (tc.want == rules.Drop) {
				t.Errorf("%s, local %v: verdict %s, want %s", tc.name, local, got.final, tc.want)
			}
		}
	}
	other := tagged(from(2, "10.5.0.9", "10.2.0.10"))
	if got := w.arrive(other, nil); got.final != rules.Accept {
		t.Errorf("another tunnel was restricted: verdict %s", got.final)
	}
	// A flow that was allowed is not readmitted in clear when the tunnel is gone.
	gone := compileInput(t, snapshotOf(sunHost()), firewall.Input{Guards: guard.Live(xfrm.Tunnels(snapshotOf(sunHost(), sunSite())), sunHost())})
	clear := clear4("10.1.0.10", "10.2.0.10")
	clear.Ct.State = rules.CtEstablished
	if got := gone.arrive(clear, nil); got.final != rules.Drop {
		t.Errorf("an established flow, in clear: verdict %s", got.final)
	}
}

func TestRestrictedOut(t *testing.T) {
	w := restricted(t, sunHost(), firewall.TunnelConfig{Out: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(443)}}}, sunSite())
	p := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", Proto: xfrm.TCP, DPort: 443,
		OutBundle: []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}}}
	if got := w.forward(p); got.final != rules.Accept {
		t.Errorf("an allowed port: verdict %s", got.final)
	}
	p.DPort = 22
	if got := w.forward(p); got.final != rules.Reject || !got.met(rules.PurposeRestricted) {
		t.Errorf("another port: verdict %s", got.final)
	}
	p.Ct.State = rules.CtEstablished
	if got := w.forward(p); got.final != rules.Accept {
		t.Errorf("a reply: verdict %s", got.final)
	}
	p.Ct.State, p.In, p.SrcLocal, p.Src = 0, "", true, addr("10.2.0.1")
	if got := w.send(p); got.final != rules.Reject {
		t.Errorf("the gateway's own: verdict %s", got.final)
	}
}

func TestRestrictedDevices(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "ipsec0", Kind: "xfrm", IfID: 7})
	s := sunSite()
	s.IfID, s.Pairs = 7, [][2]string{{"0.0.0.0/0", "0.0.0.0/0"}}
	w := restricted(t, host, firewall.TunnelConfig{In: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(22)}}, Out: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(22)}}}, s)
	in := tagged(from(1, "10.1.0.10", "10.2.0.10"))
	in.In = "ipsec0"
	if got := w.arrive(in, nil); got.final != rules.Drop {
		t.Errorf("in by the device: verdict %s", got.final)
	}
	out := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "ipsec0", Proto: xfrm.TCP, DPort: 80}
	if got := w.forward(out); got.final != rules.Reject {
		t.Errorf("out by the device: verdict %s", got.final)
	}
	out.DPort = 22
	if got := w.forward(out); got.final != rules.Accept {
		t.Errorf("an allowed port out by the device: verdict %s", got.final)
	}

	host = sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "gre1", Kind: "gre", Local: addr(sunWAN), Remote: addr(moonWAN)})
	carried := sample.Site{Reqid: 1, Local: sunWAN, Remote: moonWAN, Transport: true, Proto: xfrm.GRE,
		Pairs: [][2]string{{sunWAN + "/32", moonWAN + "/32"}}}
	w = restricted(t, host, firewall.TunnelConfig{In: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(22)}}}, carried)
	inner := trace.Packet{Src: addr("10.50.0.1"), Dst: addr("10.2.0.10"), In: "gre1", Out: "eth1", Proto: xfrm.TCP, DPort: 80, Mark: verified}
	if got := w.arrive(inner, nil); got.final != rules.Drop || !got.met(rules.PurposeRestricted) {
		t.Errorf("out of GRE: verdict %s", got.final)
	}
	inner.DPort = 22
	if got := w.arrive(inner, nil); got.final != rules.Accept {
		t.Errorf("an allowed port out of GRE: verdict %s", got.final)
	}
	carrier := tagged(from(1, moonWAN, sunWAN))
	carrier.Proto, carrier.DstLocal, carrier.SecPath[0].Mode = xfrm.GRE, true, xfrm.TransportMode
	if got := w.arrive(carrier, nil); got.final != rules.Accept {
		t.Errorf("the carrier itself: verdict %s", got.final)
	}
}

func TestLockdown(t *testing.T) {
	config := firewall.Config{WAN: []string{"eth0"}, Lockdown: &firewall.Lockdown{Services: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(22)}}}}
	w := compileWorld(t, snapshotOf(sunHost(), sunSite()), config)
	packet := func(in string, proto xfrm.Proto, port uint16, local bool) trace.Packet {
		return trace.Packet{Src: addr("198.51.100.7"), Dst: addr(sunWAN), In: in, Proto: proto, SPort: 40000, DPort: port, DstLocal: local, Out: "eth1"}
	}
	reply := packet("eth0", xfrm.TCP, 40000, true)
	reply.Ct.State = rules.CtEstablished
	related := packet("eth0", xfrm.ICMP, 0, true)
	related.Ct.State = rules.CtRelated
	nd := trace.Packet{Src: addr("2001:db8:ffff::9"), Dst: addr(sun6WAN), In: "eth0", Proto: xfrm.ICMPv6, ICMPType: 135, DstLocal: true}
	dhcp := packet("eth0", xfrm.UDP, 68, true)
	dhcp.SPort = 67
	dhcpToAll, dhcpBehind := dhcp, packet("eth0", xfrm.UDP, 68, false)
	dhcpToAll.Dst, dhcpToAll.DstLocal, dhcpBehind.SPort = firewall.LimitedBroadcast(), false, 67
	for _, tc := range []struct {
		name   string
		packet trace.Packet
		want   rules.Verb
	}{
		{"a listed service", packet("eth0", xfrm.TCP, 22, true), rules.Accept},
		{"a listed service, forwarded", packet("eth0", xfrm.TCP, 22, false), rules.Drop},
		{"anything else", packet("eth0", xfrm.TCP, 80, true), rules.Drop},
		{"anything else, forwarded", packet("eth0", xfrm.TCP, 80, false), rules.Drop},
		{"IKE", packet("eth0", xfrm.UDP, 500, true), rules.Accept},
		{"a reply", reply, rules.Accept},
		{"an ICMP error", related, rules.Accept},
		{"neighbour discovery", nd, rules.Accept},
		{"DHCP", dhcp, rules.Accept},
		{"DHCP to a host behind", dhcpBehind, rules.Drop},
		{"from the LAN", packet("eth1", xfrm.TCP, 80, true), rules.Return},
		{"tunnel traffic", tagged(from(1, "10.1.0.10", "10.2.0.10")), rules.Accept},
	} {
		got := w.arrive(tc.packet, nil)
		if got.final != tc.want || got.met(rules.PurposeLockdown) != (tc.want == rules.Drop) {
			t.Errorf("%s: verdict %s, want %s", tc.name, got.final, tc.want)
		}
	}
	// IPv6 has no broadcast, so no mirror.
	if got := w.in(dhcpToAll, nil); got.final != rules.Accept {
		t.Errorf("DHCP to all of the link: %s", got.final)
	}
	config.MarkOnly = true
	w = compileWorld(t, snapshotOf(sunHost(), sunSite()), config)
	if got := w.arrive(tagged(from(1, "10.1.0.10", "10.2.0.10")), nil); got.final != rules.Return {
		t.Errorf("tunnel traffic whose verdict is another's: %s", got.final)
	}
}

// The cap holds in both directions.
func TestCapOutbound(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{sunLAN, "10.0.0.0/8"}, {sunLAN, "140.82.0.0/16"}}
	w := restricted(t, sunHost(), firewall.TunnelConfig{Remote: []netip.Prefix{netip.MustParsePrefix(moonLAN)}}, s)
	p := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", Proto: xfrm.TCP,
		OutBundle: []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}}}
	if got := w.forward(p); got.final != rules.Accept {
		t.Errorf("within the cap: verdict %s", got.final)
	}
	for _, dst := range []string{"10.9.0.10", "140.82.1.1"} {
		p.Dst = addr(dst)
		if got := w.forward(p); got.final != rules.Reject || !got.met(rules.PurposeRestricted) {
			t.Errorf("beyond the cap, to %s: verdict %s", dst, got.final)
		}
	}
	if got := w.arrive(clear4("140.82.1.1", "10.2.0.10"), nil); got.final == rules.Drop {
		t.Error("a peer cut off a network beyond its cap")
	}
}

// Pairs of a tunnel that share a remote selector have one rule for it.
func TestOneRuleForARemote(t *testing.T) {
	site := sunSite()
	site.Pairs = [][2]string{{sunLAN, moonLAN}, {"10.22.0.0/24", moonLAN}}
	services := []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(22)}}
	w := restricted(t, sunHost(), firewall.TunnelConfig{MSS: firewall.MSS{Size: 1360}, In: services, Out: services}, site)
	for _, c := range w.result.Rulesets[0].Chains {
		if roots := []string{layout.ChainMSSIn, layout.ChainMSSOut, layout.ChainRestrictIn, layout.ChainRestrictOut}; slices.Contains(roots, c.Name) && c.Rules.Len() != 1 {
			t.Errorf("%s has %d rules", c.Name, c.Rules.Len())
		}
	}
}
