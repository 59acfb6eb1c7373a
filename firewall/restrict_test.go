package firewall

import (
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

func restricted(t *testing.T, host xfrm.Host, tc TunnelConfig, sites ...site) world {
	t.Helper()
	tc.Match = Match{Reqid: 1}
	return compileWorld(t, snapshotOf(host, sites...), Config{Tunnels: []TunnelConfig{tc}})
}

func TestRestrictedIn(t *testing.T) {
	hub := site{reqid: 2, local: sunWAN, remote: "198.51.100.1", mode: xfrm.TunnelMode, pairs: [][2]string{{"10.0.0.0/8", "10.5.0.0/24"}}}
	services := []Service{{xfrm.TCP, Port(22)}, {xfrm.UDP, Ports{5000, 5010}}, {Proto: xfrm.ICMP}}
	w := restricted(t, sunHost(), TunnelConfig{In: services}, sunSite(), hub)
	packet := func(proto xfrm.Proto, port uint16, state CtState) Packet {
		p := tagged(from(1, "10.1.0.10", "10.2.0.10"))
		p.Proto, p.DPort, p.Ct.State, p.Out = proto, port, state, "eth1"
		return p
	}
	for _, tc := range []struct {
		name   string
		packet Packet
		want   Verb
	}{
		{"an allowed port", packet(xfrm.TCP, 22, 0), Accept},
		{"within an allowed range", packet(xfrm.UDP, 5005, 0), Accept},
		{"icmp", packet(xfrm.ICMP, 0, 0), Accept},
		{"another port", packet(xfrm.TCP, 80, 0), Drop},
		{"the port in another protocol", packet(xfrm.UDP, 22, 0), Drop},
		{"of a flow that was allowed", packet(xfrm.TCP, 80, CtEstablished), Accept},
		{"an error about a flow that was allowed", packet(xfrm.ICMP, 0, CtRelated), Accept},
	} {
		for _, local := range []bool{false, true} {
			tc.packet.DstLocal = local
			got := w.arrive(tc.packet, nil)
			if got.final != tc.want || got.met(PurposeRestricted) != (tc.want == Drop) {
				t.Errorf("%s, local %v: verdict %s, want %s", tc.name, local, got.final, tc.want)
			}
		}
	}
	other := tagged(from(2, "10.5.0.9", "10.2.0.10"))
	if got := w.arrive(other, nil); got.final != Accept {
		t.Errorf("another tunnel was restricted: verdict %s", got.final)
	}
	// A flow that was allowed is not readmitted in clear when the tunnel is gone.
	gone := compileInput(t, snapshotOf(sunHost()), Input{Guards: LiveGuards(xfrm.Tunnels(snapshotOf(sunHost(), sunSite())), sunHost())})
	clear := clear4("10.1.0.10", "10.2.0.10")
	clear.Ct.State = CtEstablished
	if got := gone.arrive(clear, nil); got.final != Drop {
		t.Errorf("an established flow, in clear: verdict %s", got.final)
	}
}

func TestRestrictedOut(t *testing.T) {
	w := restricted(t, sunHost(), TunnelConfig{Out: []Service{{xfrm.TCP, Port(443)}}}, sunSite())
	p := Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", Proto: xfrm.TCP, DPort: 443,
		Ahead: []Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}}}
	if got := w.forward(p); got.final != Accept {
		t.Errorf("an allowed port: verdict %s", got.final)
	}
	p.DPort = 22
	if got := w.forward(p); got.final != Reject || !got.met(PurposeRestricted) {
		t.Errorf("another port: verdict %s", got.final)
	}
	p.Ct.State = CtEstablished
	if got := w.forward(p); got.final != Accept {
		t.Errorf("a reply: verdict %s", got.final)
	}
	p.Ct.State, p.In, p.SrcLocal, p.Src = 0, "", true, addr("10.2.0.1")
	if got := w.send(p); got.final != Reject {
		t.Errorf("the gateway's own: verdict %s", got.final)
	}
}

func TestRestrictedDevices(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "ipsec0", Kind: "xfrm", IfID: 7})
	s := sunSite()
	s.ifID, s.pairs = 7, [][2]string{{"0.0.0.0/0", "0.0.0.0/0"}}
	w := restricted(t, host, TunnelConfig{In: []Service{{xfrm.TCP, Port(22)}}, Out: []Service{{xfrm.TCP, Port(22)}}}, s)
	in := tagged(from(1, "10.1.0.10", "10.2.0.10"))
	in.In = "ipsec0"
	if got := w.arrive(in, nil); got.final != Drop {
		t.Errorf("in by the device: verdict %s", got.final)
	}
	out := Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "ipsec0", Proto: xfrm.TCP, DPort: 80}
	if got := w.forward(out); got.final != Reject {
		t.Errorf("out by the device: verdict %s", got.final)
	}
	out.DPort = 22
	if got := w.forward(out); got.final != Accept {
		t.Errorf("an allowed port out by the device: verdict %s", got.final)
	}

	host = sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "gre1", Kind: "gre", Local: addr(sunWAN), Remote: addr(moonWAN)})
	carried := site{reqid: 1, local: sunWAN, remote: moonWAN, mode: xfrm.TransportMode, proto: xfrm.GRE,
		pairs: [][2]string{{sunWAN + "/32", moonWAN + "/32"}}}
	w = restricted(t, host, TunnelConfig{In: []Service{{xfrm.TCP, Port(22)}}}, carried)
	inner := Packet{Src: addr("10.50.0.1"), Dst: addr("10.2.0.10"), In: "gre1", Out: "eth1", Proto: xfrm.TCP, DPort: 80, Mark: verified}
	if got := w.arrive(inner, nil); got.final != Drop || !got.met(PurposeRestricted) {
		t.Errorf("out of GRE: verdict %s", got.final)
	}
	inner.DPort = 22
	if got := w.arrive(inner, nil); got.final != Accept {
		t.Errorf("an allowed port out of GRE: verdict %s", got.final)
	}
	carrier := tagged(from(1, moonWAN, sunWAN))
	carrier.Proto, carrier.DstLocal, carrier.Path[0].Mode = xfrm.GRE, true, xfrm.TransportMode
	if got := w.arrive(carrier, nil); got.final != Accept {
		t.Errorf("the carrier itself: verdict %s", got.final)
	}
}

func TestLockdown(t *testing.T) {
	config := Config{WAN: []string{"eth0"}, Lockdown: &Lockdown{Services: []Service{{xfrm.TCP, Port(22)}}}}
	w := compileWorld(t, snapshotOf(sunHost(), sunSite()), config)
	packet := func(in string, proto xfrm.Proto, port uint16, local bool) Packet {
		return Packet{Src: addr("198.51.100.7"), Dst: addr(sunWAN), In: in, Proto: proto, SPort: 40000, DPort: port, DstLocal: local, Out: "eth1"}
	}
	reply := packet("eth0", xfrm.TCP, 40000, true)
	reply.Ct.State = CtEstablished
	related := packet("eth0", xfrm.ICMP, 0, true)
	related.Ct.State = CtRelated
	nd := Packet{Src: addr("2001:db8:ffff::9"), Dst: addr(sun6WAN), In: "eth0", Proto: xfrm.ICMPv6, ICMPType: 135, DstLocal: true}
	dhcp := packet("eth0", xfrm.UDP, 68, true)
	dhcp.SPort = 67
	for _, tc := range []struct {
		name   string
		packet Packet
		want   Verb
	}{
		{"a listed service", packet("eth0", xfrm.TCP, 22, true), Accept},
		{"a listed service, forwarded", packet("eth0", xfrm.TCP, 22, false), Drop},
		{"anything else", packet("eth0", xfrm.TCP, 80, true), Drop},
		{"anything else, forwarded", packet("eth0", xfrm.TCP, 80, false), Drop},
		{"IKE", packet("eth0", xfrm.UDP, 500, true), Accept},
		{"a reply", reply, Accept},
		{"an ICMP error", related, Accept},
		{"neighbour discovery", nd, Accept},
		{"DHCP", dhcp, Accept},
		{"from the LAN", packet("eth1", xfrm.TCP, 80, true), Return},
		{"tunnel traffic", tagged(from(1, "10.1.0.10", "10.2.0.10")), Accept},
	} {
		got := w.arrive(tc.packet, nil)
		if got.final != tc.want || got.met(PurposeLockdown) != (tc.want == Drop) {
			t.Errorf("%s: verdict %s, want %s", tc.name, got.final, tc.want)
		}
	}
	config.MarkOnly = true
	w = compileWorld(t, snapshotOf(sunHost(), sunSite()), config)
	if got := w.arrive(tagged(from(1, "10.1.0.10", "10.2.0.10")), nil); got.final != Return {
		t.Errorf("tunnel traffic whose verdict is another's: %s", got.final)
	}
}

// The cap holds in both directions.
func TestCapOutbound(t *testing.T) {
	s := sunSite()
	s.pairs = [][2]string{{sunLAN, "10.0.0.0/8"}, {sunLAN, "140.82.0.0/16"}}
	w := restricted(t, sunHost(), TunnelConfig{Remote: []netip.Prefix{netip.MustParsePrefix(moonLAN)}}, s)
	p := Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", Proto: xfrm.TCP,
		Ahead: []Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}}}
	if got := w.forward(p); got.final != Accept {
		t.Errorf("within the cap: verdict %s", got.final)
	}
	for _, dst := range []string{"10.9.0.10", "140.82.1.1"} {
		p.Dst = addr(dst)
		if got := w.forward(p); got.final != Reject || !got.met(PurposeRestricted) {
			t.Errorf("beyond the cap, to %s: verdict %s", dst, got.final)
		}
	}
	if got := w.arrive(clear4("140.82.1.1", "10.2.0.10"), nil); got.final == Drop {
		t.Error("a peer cut off a network beyond its cap")
	}
}
