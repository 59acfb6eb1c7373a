package compile

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// An ICMP error in clear about a tunnel's flow is nobody's but an attacker's,
// whatever its source; conntrack ties it to the flow all the same.
func TestForgedErrorsAboutTunnelFlows(t *testing.T) {
	far, near, gateway := addr("10.1.0.10"), addr("10.2.0.10"), addr("10.2.0.1")
	s := sunSite()
	s.Pairs = append(s.Pairs, [2]string{sun6LAN, moon6LAN})
	for name, w := range states(t, sunHost(), s) {
		t.Run(name, func(t *testing.T) {
			for _, tc := range []struct {
				name string
				p    trace.Packet
				want bool
			}{
				{"a flow that began here", trace.Packet{Dst: near, Ct: trace.Conntrack{OrigSrc: near, OrigDst: far, ReplSrc: far, ReplDst: near}}, true},
				{"a flow that began there", trace.Packet{Dst: near, Ct: trace.Conntrack{OrigSrc: far, OrigDst: near, ReplSrc: near, ReplDst: far}}, true},
				{"the gateway's own", trace.Packet{Dst: gateway, DstLocal: true, Ct: trace.Conntrack{OrigSrc: gateway, OrigDst: far, ReplSrc: far, ReplDst: gateway}}, true},
				{"SNATed into the selector", trace.Packet{Dst: addr("10.2.0.9"), Ct: trace.Conntrack{OrigSrc: addr("192.168.7.5"), OrigDst: far, ReplSrc: far, ReplDst: addr("10.2.0.9")}}, true},
				{"a flow to elsewhere", trace.Packet{Dst: near, Ct: trace.Conntrack{OrigSrc: near, OrigDst: addr("203.0.113.9"), ReplSrc: addr("203.0.113.9"), ReplDst: near}}, false},
				{"from elsewhere", trace.Packet{Dst: near, Ct: trace.Conntrack{OrigSrc: addr("203.0.113.9"), OrigDst: near, ReplSrc: near, ReplDst: addr("203.0.113.9")}}, false},
				{"IPv6", trace.Packet{Dst: addr("fd00:2::10"), Src: addr("2001:db8::66"), Proto: xfrm.ICMPv6, ICMPType: 2,
					Ct: trace.Conntrack{OrigSrc: addr("fd00:2::10"), OrigDst: addr("fd00:1::10"), ReplSrc: addr("fd00:1::10"), ReplDst: addr("fd00:2::10")}}, true},
			} {
				p := tc.p
				p.In, p.Ct.State = "eth0", rules.CtRelated
				if !p.Src.IsValid() {
					p.Src, p.Proto, p.ICMPType = addr("192.0.2.66"), xfrm.ICMP, 3
				}
				if got := w.arrive(p, nil); got.met(rules.PurposeSpoof) != tc.want {
					t.Errorf("%s: stopped %v, want %v", tc.name, !tc.want, tc.want)
				}
			}
		})
	}
	// A packet out of the tunnel is judged by the tunnel.
	w := compileWorld(t, snapshotOf(sunHost(), s), firewall.Config{})
	p := tagged(from(1, "172.16.9.9", "10.2.0.10"))
	p.Proto, p.ICMPType, p.Ct = xfrm.ICMP, 3, trace.Conntrack{State: rules.CtRelated, OrigSrc: near, OrigDst: far, ReplSrc: far, ReplDst: near}
	if got := w.arrive(p, nil); got.final != rules.Accept || got.met(rules.PurposeSpoof) {
		t.Errorf("out of the tunnel: verdict %s", got.final)
	}
}

// Errors about the tunnel's own ESP and IKE tell its path MTU, and come in clear.
func TestErrorsAboutOuterFlowsPass(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{sunWAN + "/32", moonWAN + "/32"}}
	s.Transport = true
	us, peer := addr(sunWAN), addr(moonWAN)
	for name, w := range states(t, sunHost(), s) {
		began := trace.Conntrack{State: rules.CtRelated, OrigSrc: us, OrigDst: peer, ReplSrc: peer, ReplDst: us}
		met := trace.Conntrack{State: rules.CtRelated, OrigSrc: peer, OrigDst: us, ReplSrc: us, ReplDst: peer}
		for _, tc := range []struct {
			name     string
			ct       trace.Conntrack
			proto    xfrm.Proto
			from, to uint16
			want     bool
		}{
			{"ESP", began, xfrm.ESP, 0, 0, false}, {"AH", began, xfrm.AH, 0, 0, false},
			{"IKE", began, xfrm.UDP, 500, 500, false}, {"ESP in UDP", began, xfrm.UDP, 4500, 31000, false},
			{"IKE of the peer", met, xfrm.UDP, 31000, 4500, false},
			{"what is inside", began, xfrm.TCP, 31000, 22, true}, {"what is inside, of the peer", met, xfrm.TCP, 31000, 22, true},
		} {
			p := trace.Packet{Src: addr("198.51.100.1"), Dst: us, DstLocal: true, In: "eth0", Proto: xfrm.ICMP, ICMPType: 3, Ct: tc.ct}
			p.Ct.Proto, p.Ct.OrigSPort, p.Ct.OrigDPort = tc.proto, tc.from, tc.to
			if got := w.arrive(p, nil); got.met(rules.PurposeSpoof) != tc.want {
				t.Errorf("%s: about %s: stopped %v, want %v", name, tc.name, !tc.want, tc.want)
			}
			if p.DstLocal, p.Dst = false, near(p.Dst); tc.want {
				continue
			}
			if got := w.arrive(p, nil); got.met(rules.PurposeSpoof) {
				t.Errorf("%s: an error to another address was judged", name)
			}
		}
	}
}

// near is the next address: some other host's.
func near(a netip.Addr) netip.Addr { return a.Next() }

// Exceptions and connected networks are spared as the packets themselves are,
// and a pair with a protocol or a port claims its own flows only.
func TestErrorsAboutOtherFlowsPass(t *testing.T) {
	wide := sunSite()
	wide.Pairs = [][2]string{{"10.0.0.0/8", "10.0.0.0/8"}}
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "eth2", Up: true})
	host.Addresses = append(host.Addresses, xfrm.Address{Link: 4, Prefix: netip.MustParsePrefix("10.3.0.1/24")})
	about := func(a, b string) trace.Conntrack {
		return trace.Conntrack{State: rules.CtRelated, OrigSrc: addr(a), OrigDst: addr(b), ReplSrc: addr(b), ReplDst: addr(a)}
	}
	w := compileWorld(t, snapshotOf(host, wide), firewall.Config{})
	for _, tc := range []struct {
		in   string
		ct   trace.Conntrack
		want bool
	}{
		{"eth2", about("10.2.0.10", "10.3.0.10"), false}, {"eth2", about("10.3.0.10", "10.2.0.10"), false},
		{"eth0", about("10.2.0.10", "10.3.0.10"), true}, {"eth2", about("10.2.0.10", "10.1.0.10"), true},
	} {
		p := trace.Packet{Src: addr("10.3.0.1"), Dst: addr("10.2.0.10"), In: tc.in, Proto: xfrm.ICMP, ICMPType: 3, Ct: tc.ct}
		if tc.in == "eth0" {
			p.Src = addr("198.51.100.1")
		}
		if got := w.arrive(p, nil); got.met(rules.PurposeSpoof) != tc.want {
			t.Errorf("in by %s about %v: stopped %v, want %v", tc.in, tc.ct, !tc.want, tc.want)
		}
	}

	beside := sunSite()
	beside.Pairs = [][2]string{{"172.20.0.0/24", "10.0.0.0/8"}}
	w = compileWorld(t, snapshotOf(host, beside), firewall.Config{})
	for _, ct := range []trace.Conntrack{about("172.20.0.5", "10.1.0.10"), about("10.1.0.10", "172.20.0.5")} {
		p := trace.Packet{Src: addr("198.51.100.1"), Dst: addr("172.20.0.5"), In: "eth0", Proto: xfrm.ICMP, ICMPType: 3, Ct: ct}
		if got := w.arrive(p, nil); !got.met(rules.PurposeSpoof) {
			t.Errorf("beside a LAN below the remote selector, about %v: not stopped", ct)
		}
	}

	s := snapshotOf(sunHost(), sunSite())
	s.Policies = append(s.Policies, bypass("10.1.0.128/25", sunLAN, xfrm.In, 10), bypass("10.1.0.128/25", sunLAN, xfrm.Fwd, 10), bypass(sunLAN, "10.1.0.128/25", xfrm.Out, 10))
	w = compileWorld(t, s, firewall.Config{})
	for _, ct := range []trace.Conntrack{about("10.2.0.10", "10.1.0.200"), about("10.1.0.200", "10.2.0.10")} {
		p := trace.Packet{Src: addr("198.51.100.1"), Dst: addr("10.2.0.10"), In: "eth0", Proto: xfrm.ICMP, ICMPType: 3, Ct: ct}
		if got := w.arrive(p, nil); got.met(rules.PurposeSpoof) {
			t.Errorf("what a bypass policy leaves alone was judged: %v", ct)
		}
	}

	ported := sunSite()
	ported.Proto, ported.Port = xfrm.TCP, 22
	w = compileWorld(t, snapshotOf(sunHost(), ported), firewall.Config{})
	judged := func(w world, what string, ports map[uint16]bool) {
		t.Helper()
		for port, want := range ports {
			for _, ct := range []trace.Conntrack{about("10.1.0.10", "10.2.0.10"), about("10.2.0.10", "10.1.0.10")} {
				ct.Proto, ct.OrigSPort, ct.OrigDPort = xfrm.TCP, 31000, port
				if ct.OrigSrc == addr("10.2.0.10") {
					ct.OrigSPort, ct.OrigDPort = port, 31000
				}
				p := trace.Packet{Src: addr("198.51.100.1"), Dst: addr("10.2.0.10"), In: "eth0", Proto: xfrm.ICMP, ICMPType: 3, Ct: ct}
				if got := w.arrive(p, nil); got.met(rules.PurposeSpoof) != want {
					t.Errorf("%s: port %d, %v: stopped %v, want %v", what, port, ct, !want, want)
				}
			}
		}
	}
	judged(w, "port 22", map[uint16]bool{22: true, 80: false})

	// A range of ports, as a selector's mask can express it.
	snap := snapshotOf(sunHost(), ported)
	for i := range snap.Policies {
		sel := &snap.Policies[i].Selector
		for _, m := range []*xfrm.PortMatch{&sel.SPort, &sel.DPort} {
			if m.Port != 0 {
				*m = xfrm.PortMatch{Port: 5000 &^ 7, Mask: 0xfff8}
			}
		}
	}
	for name, w := range map[string]world{
		"up": compileWorld(t, snap, firewall.Config{}), "remembered": compileInput(t, snapshotOf(sunHost()), firewall.Input{Guards: remember(nil, snap, 1000)}),
	} {
		judged(w, name+", ports 5000 to 5007", map[uint16]bool{4999: false, 5000: true, 5007: true, 5008: false})
	}
}

// A stranger with an address of the LAN, sent by a port-forward into the tunnel.
func TestInjectThroughPortForward(t *testing.T) {
	s := sunSite()
	s.Pairs = append(s.Pairs, [2]string{"10.22.0.0/16", moonLAN}, [2]string{"10.9.0.0/24", moonLAN}, [2]string{sun6LAN, moon6LAN})
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "eth2", Up: true}, xfrm.Link{Index: 5, Name: "eth3", Up: true, Master: 6},
		xfrm.Link{Index: 6, Name: "red", Kind: "vrf", Up: true})
	host.Routes = append(host.Routes,
		xfrm.Route{Dst: netip.MustParsePrefix("10.22.0.0/16"), Link: 3}, xfrm.Route{Dst: netip.MustParsePrefix("10.22.7.0/24"), Link: 4},
		xfrm.Route{Dst: netip.MustParsePrefix("10.8.0.0/14"), Link: 4},
		xfrm.Route{Dst: netip.MustParsePrefix("10.22.8.0/24"), Link: 5}, xfrm.Route{Dst: netip.MustParsePrefix("fd00:2::/64"), Link: 3})
	for name, w := range states(t, host, s) {
		if name == "remembered" { // nothing is encrypted then: it is a leak
			continue
		}
		for _, tc := range []struct {
			src, in string
			want    bool
		}{
			{"10.2.0.66", "eth0", true}, {"10.2.0.66", "eth1", false}, {"10.2.0.66", "eth2", true},
			{"10.22.1.1", "eth0", true}, {"10.22.1.1", "eth1", false},
			{"10.22.7.1", "eth2", false}, {"10.22.7.1", "eth1", true}, {"10.22.7.1", "eth0", true},
			{"10.22.8.1", "red", false}, {"10.22.8.1", "eth3", false}, {"10.22.8.1", "eth1", true},
			{"10.9.0.1", "eth2", false}, {"10.9.0.1", "eth0", true},
			{"192.0.2.66", "eth0", false}, {"fd00:2::66", "eth0", true}, {"fd00:2::66", "eth1", false},
		} {
			p := clear4(tc.src, sunWAN)
			to := addr("10.1.0.10")
			if !p.Src.Is4() {
				p.Dst, to = addr(sun6WAN), addr("fd00:1::10")
			}
			p.In = tc.in
			got := w.arrive(p, func(p *trace.Packet) {
				p.Dst, p.Ct = to, trace.Conntrack{State: rules.CtDNAT, Dir: rules.CtOriginal}
				p.OutBundle = []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}}
			})
			if got.met(rules.PurposeInject) != tc.want {
				t.Errorf("%s: %s in by %s: stopped %v, want %v", name, tc.src, tc.in, !tc.want, tc.want)
			}
			if tc.want && got.final != rules.Drop {
				t.Errorf("%s: %s in by %s: verdict %s", name, tc.src, tc.in, got.final)
			}
		}
	}
	w := compileWorld(t, snapshotOf(host, s), firewall.Config{Guard: guard.Config{Asymmetric: []string{"eth2"}}})
	p := clear4("10.2.0.66", "10.1.0.10")
	p.In, p.Ct, p.OutBundle = "eth2", trace.Conntrack{State: rules.CtDNAT, Dir: rules.CtOriginal}, []xfrm.Transform{{Proto: xfrm.ESP, Reqid: 1}}
	if got := w.arrive(p, nil); got.met(rules.PurposeInject) {
		t.Error("what comes in by an asymmetric interface was judged")
	}
	p.In, p.Ct.Dir = "eth0", rules.CtReply
	if got := w.arrive(p, nil); got.met(rules.PurposeInject) {
		t.Error("a reply was judged")
	}
}

// A packet that came out of a tunnel and is led into another one by DNAT is no
// stranger's, though its source lives in the LAN too.
func TestMappedFromTunnelToTunnel(t *testing.T) {
	wide, other := peer(1, moonWAN, [2]string{sunLAN, "10.0.0.0/8"}), peer(2, "192.0.2.9", [2]string{sunLAN, "172.31.0.0/24"})
	w := compileWorld(t, snapshotOf(sunHost(), wide, other), firewall.Config{})
	for _, reqid := range []uint32{1, 0} {
		p := clear4("10.2.0.77", "10.2.0.1")
		if reqid != 0 {
			p = tagged(from(reqid, "10.2.0.77", "10.2.0.1"))
		}
		got := w.arrive(p, func(p *trace.Packet) {
			p.Dst, p.Ct = addr("172.31.0.10"), trace.Conntrack{State: rules.CtDNAT, Dir: rules.CtOriginal}
			p.OutBundle = []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 2}}
		})
		if stopped := got.met(rules.PurposeSpoof) || got.met(rules.PurposeInject); stopped != (reqid == 0) {
			t.Errorf("reqid %d: stopped %v; met %v", reqid, stopped, got.steps)
		}
	}
}

// An exception holds for errors about its flows too, whichever end began them,
// where the guard that it takes them from covers the near end as well.
func TestErrorsAboutPiercedFlows(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{"10.20.0.0/16", "10.0.0.0/8"}}
	host := sunHost()
	host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("10.20.0.0/16"), Link: 3, Via: addr("10.2.0.254")})
	snap := snapshotOf(host, s)
	snap.Policies = append(snap.Policies, bypass("10.1.0.128/25", "10.20.0.0/16", xfrm.In, 10),
		bypass("10.1.0.128/25", "10.20.0.0/16", xfrm.Fwd, 10), bypass("10.20.0.0/16", "10.1.0.128/25", xfrm.Out, 10))
	w := compileWorld(t, snap, firewall.Config{})
	here := addr("10.20.0.10")
	for _, tc := range []struct {
		far  string
		want bool
	}{{"10.1.0.200", false}, {"10.1.0.10", true}} {
		far := addr(tc.far)
		for _, ct := range []trace.Conntrack{
			{State: rules.CtRelated, OrigSrc: far, OrigDst: here, ReplSrc: here, ReplDst: far},
			{State: rules.CtRelated, OrigSrc: here, OrigDst: far, ReplSrc: far, ReplDst: here},
		} {
			p := trace.Packet{Src: addr("198.51.100.7"), Dst: here, In: "eth0", Proto: xfrm.ICMP, ICMPType: 3, Ct: ct}
			if got := w.arrive(p, nil); got.met(rules.PurposeSpoof) != tc.want {
				t.Errorf("an error about the flow from %s to %s: stopped %v, want %v", ct.OrigSrc, ct.OrigDst, !tc.want, tc.want)
			}
		}
	}
}

// Source NAT into the near side of an exception leaves the flow's first sender
// outside of it: the tree for that end may lead to a guard over a LAN, which does
// not decide there about the other end. It is the same with many tunnels, where
// the trees part.
func TestErrorsAboutPiercedFlowsBehindNAT(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{"10.20.0.0/16", "10.0.0.0/8"}}
	many := s
	for i := range 200 {
		many.Pairs = append(many.Pairs, [2]string{"192.168.8.0/24", fmt.Sprintf("172.%d.%d.0/24", 16+i/100, i%100)})
	}
	for _, s := range []sample.Site{s, many} {
		snap := snapshotOf(sunHost(), s)
		snap.Policies = append(snap.Policies, bypass("10.1.0.128/25", "10.20.0.0/16", xfrm.In, 10),
			bypass("10.1.0.128/25", "10.20.0.0/16", xfrm.Fwd, 10), bypass("10.20.0.0/16", "10.1.0.128/25", xfrm.Out, 10))
		w := compileWorld(t, snap, firewall.Config{})
		here, behind := addr("10.20.0.10"), addr("192.168.50.5")
		for _, tc := range []struct {
			far  string
			want bool
		}{{"10.1.0.200", false}, {"10.1.0.10", true}} {
			far := addr(tc.far)
			p := trace.Packet{
				Src: addr("198.51.100.7"), Dst: here, In: "eth0", Proto: xfrm.ICMP, ICMPType: 3,
				Ct: trace.Conntrack{State: rules.CtRelated, OrigSrc: behind, OrigDst: far, ReplSrc: far, ReplDst: here},
			}
			if got := w.arrive(p, nil); got.met(rules.PurposeSpoof) != tc.want {
				t.Errorf("among %d pairs, an error about a flow to %s: stopped %v, want %v", len(s.Pairs), far, !tc.want, tc.want)
			}
		}
	}
}
