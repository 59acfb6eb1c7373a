package compile

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/firewall/rules/tree"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// states returns the gateway in each state in which the guards have to hold.
func states(t *testing.T, host xfrm.Host, s sample.Site) map[string]world {
	t.Helper()
	down := s
	down.Down = true
	remembered := firewall.Input{Guards: guard.Live(xfrm.Tunnels(snapshotOf(host, s)), host)}
	for i := range remembered.Guards {
		remembered.Guards[i].Source = guard.FromMemory
	}
	return map[string]world{
		"up":         compileWorld(t, snapshotOf(host, s), firewall.Config{}),
		"trap":       compileWorld(t, snapshotOf(host, down), firewall.Config{}),
		"remembered": compileInput(t, snapshotOf(host), remembered),
	}
}

// leaks reports whether mangle stops a packet as it leaves, whatever filter said.
func (w world) leaks(p trace.Packet) bool {
	return w.last(p).met(rules.PurposeLeak)
}

func TestSpoofInEveryState(t *testing.T) {
	six := sunSite()
	six.Pairs = append(six.Pairs, [2]string{sun6LAN, moon6LAN})
	for name, w := range states(t, sunHost(), six) {
		t.Run(name, func(t *testing.T) {
			for _, p := range []trace.Packet{clear4("10.1.0.10", "10.2.0.10"), clear4("fd00:1::10", "fd00:2::10")} {
				for _, local := range []bool{false, true} {
					p.DstLocal = local
					if got := w.arrive(p, nil); got.final != rules.Drop || !got.met(rules.PurposeSpoof) {
						t.Errorf("%s, local %v: verdict %s", p.Src, local, got.final)
					}
				}
			}
			for _, p := range []trace.Packet{
				clear4("198.51.100.7", "10.2.0.10"), clear4("10.1.0.10", "198.51.100.7"), clear4("10.1.0.10", "224.0.0.5"),
				clear4("fe80::1", "fd00:2::10"), {Src: addr("10.1.0.10"), Dst: addr("10.2.0.10"), In: "lo", DstLocal: true},
			} {
				if got := w.arrive(p, nil); got.final == rules.Drop {
					t.Errorf("%s to %s was dropped: %v", p.Src, p.Dst, got.steps)
				}
			}
			// The gateway's own IPsec with the peer, though it came from a selector.
			esp := trace.Packet{Src: addr("10.1.0.10"), Dst: addr("10.2.0.1"), In: "eth0", DstLocal: true, Proto: xfrm.ESP}
			if got := w.arrive(esp, nil); got.final != rules.Accept {
				t.Errorf("ESP to the gateway itself: verdict %s", got.final)
			}
		})
	}
}

// Neighbour discovery is between neighbours: a routed packet is none, by any ICMP type.
func TestRoutedNeighbourDiscovery(t *testing.T) {
	six := sunSite()
	six.Pairs = [][2]string{{sun6LAN, moon6LAN}}
	for name, w := range states(t, sunHost(), six) {
		t.Run(name, func(t *testing.T) {
			for _, kind := range []uint8{133, 134, 135, 136} {
				p := trace.Packet{Src: addr("fd00:1::10"), Dst: addr("fd00:2::10"), In: "eth0", Proto: xfrm.ICMPv6, ICMPType: kind}
				if got := w.arrive(p, nil); got.final != rules.Drop || !got.met(rules.PurposeSpoof) {
					t.Errorf("type %d, forwarded in: verdict %s", kind, got.final)
				}
				p.DstLocal = true
				if got := w.arrive(p, nil); got.final == rules.Drop {
					t.Errorf("type %d, to the gateway: verdict %s", kind, got.final)
				}
				p = trace.Packet{Src: addr("fd00:2::10"), Dst: addr("fd00:1::10"), In: "eth1", Out: "eth0", Proto: xfrm.ICMPv6, ICMPType: kind}
				if got := w.forward(p); got.final != rules.Reject {
					t.Errorf("type %d, forwarded out: verdict %s", kind, got.final)
				}
				p.In, p.SrcLocal = "", true
				if got := w.send(p); got.final == rules.Drop || got.final == rules.Reject {
					t.Errorf("type %d, of the gateway: verdict %s", kind, got.final)
				}
			}
		})
	}
}

func TestLeakInEveryState(t *testing.T) {
	for name, w := range states(t, sunHost(), sunSite()) {
		t.Run(name, func(t *testing.T) {
			p := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", Proto: xfrm.TCP}
			if got := w.forward(p); got.final != rules.Reject || !got.met(rules.PurposeReject) {
				t.Errorf("forwarded: verdict %s", got.final)
			}
			if got := w.last(p); got.final != rules.Drop {
				t.Errorf("forwarded, where filter is not asked: verdict %s", got.final)
			}
			own := p
			own.In, own.Src, own.SrcLocal = "", addr("10.2.0.1"), true
			got := w.send(own)
			if want := map[string]rules.Verb{"up": rules.Drop, "trap": rules.Drop, "remembered": rules.Reject}[name]; got.final != want {
				t.Errorf("own: verdict %s, want %s", got.final, want)
			}
			for _, ok := range []trace.Packet{
				{Src: addr("10.2.0.10"), Dst: addr("198.51.100.7"), Out: "eth0"},
				{Src: addr("192.168.7.7"), Dst: addr("10.1.0.10"), Out: "eth0"},
				{Src: addr("10.2.0.1"), Dst: addr("10.1.0.10"), Out: "lo", SrcLocal: true},
				{Src: addr("10.2.0.1"), Dst: addr("10.1.0.10"), Out: "eth0", SrcLocal: true, Proto: xfrm.UDP, SPort: 500, DPort: 500},
				{Src: addr("10.2.0.1"), Dst: addr("10.1.0.10"), Out: "eth0", SrcLocal: true, Proto: xfrm.ESP},
			} {
				if got := w.send(ok); got.final == rules.Drop || got.final == rules.Reject {
					t.Errorf("%s to %s by %s was stopped: %v", ok.Src, ok.Dst, ok.Out, got.steps)
				}
			}
		})
	}
}

func TestInjectInEveryState(t *testing.T) {
	for name, w := range states(t, sunHost(), sunSite()) {
		t.Run(name, func(t *testing.T) {
			p := clear4("10.2.0.66", "10.1.0.10")
			p.FailsRPFilter = true
			if got := w.arrive(p, nil); got.final != rules.Drop || !got.met(rules.PurposeInject) {
				t.Errorf("verdict %s", got.final)
			}
			p.In, p.FailsRPFilter = "eth1", false
			if got := w.arrive(p, nil); got.met(rules.PurposeInject) {
				t.Error("a LAN host's packet was taken for a stranger's")
			}
		})
	}
}

// A flow that NAT took hold of before the tunnel came up would leave in clear
// after every hook, although it shows the policy in all of them.
func TestRewrittenFlows(t *testing.T) {
	s := sunSite()
	s.Pairs = append(s.Pairs, [2]string{"10.22.0.0/24", moonLAN})
	w := compileWorld(t, snapshotOf(sunHost(), s), firewall.Config{})
	p := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", Proto: xfrm.TCP,
		OutBundle: []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}}}
	for _, tc := range []struct {
		name string
		ct   trace.Conntrack
		want bool
	}{
		{"not NATed", trace.Conntrack{}, false},
		{"masqueraded", trace.Conntrack{State: rules.CtSNAT, Dir: rules.CtOriginal, ReplDst: addr(sunWAN)}, true},
		{"masqueraded, its replies", trace.Conntrack{State: rules.CtSNAT, Dir: rules.CtReply, ReplDst: addr(sunWAN)}, false},
		{"SNATed into its own selector", trace.Conntrack{State: rules.CtSNAT, Dir: rules.CtOriginal, ReplDst: addr("10.2.0.9")}, false},
		{"SNATed into the tunnel's other selector", trace.Conntrack{State: rules.CtSNAT, Dir: rules.CtOriginal, ReplDst: addr("10.22.0.9")}, false},
		{"replies of a port-forward", trace.Conntrack{State: rules.CtDNAT, Dir: rules.CtReply, OrigDst: addr(sunWAN)}, true},
		{"a port-forwarded flow's own direction", trace.Conntrack{State: rules.CtDNAT, Dir: rules.CtOriginal, OrigDst: addr(sunWAN)}, false},
		{"a port forward to one local selector, answered from another", trace.Conntrack{State: rules.CtDNAT, Dir: rules.CtReply, OrigDst: addr("10.22.0.9")}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p.Ct = tc.ct
			if got := w.forward(p); got.met(rules.PurposeLeak) != tc.want {
				t.Errorf("stopped: %v, want %v", !tc.want, tc.want)
			}
		})
	}
}

func TestErrorsThatQuote(t *testing.T) {
	for name, w := range states(t, sunHost(), sunSite()) {
		t.Run(name, func(t *testing.T) {
			p := trace.Packet{Src: addr(sunWAN), Dst: addr("10.1.0.10"), Out: "eth0", SrcLocal: true, Proto: xfrm.ICMP, ICMPType: 11}
			for _, tc := range []struct {
				name string
				ct   trace.Conntrack
				want bool
			}{
				{"of no flow", trace.Conntrack{}, true},
				{"of a flow from the far side", trace.Conntrack{State: rules.CtRelated, OrigSrc: addr("10.1.0.10"), OrigDst: addr("10.2.0.10")}, true},
				{"of a flow to the far side", trace.Conntrack{State: rules.CtRelated, OrigSrc: addr("10.2.0.10"), OrigDst: addr("10.1.0.10")}, true},
				{"of a port-forwarded flow", trace.Conntrack{State: rules.CtRelated, OrigSrc: addr("10.1.0.10"), OrigDst: addr(sunWAN), ReplSrc: addr("10.2.0.10")}, true},
				{"of another flow", trace.Conntrack{State: rules.CtRelated, OrigSrc: addr("10.1.0.10"), OrigDst: addr(sunWAN), ReplSrc: addr(sunWAN)}, false},
			} {
				p.Ct = tc.ct
				if got := w.send(p); got.met(rules.PurposeLeak) != tc.want {
					t.Errorf("%s: stopped %v, want %v", tc.name, !tc.want, tc.want)
				}
			}
			p.Ct, p.OutBundle = trace.Conntrack{}, []xfrm.Transform{{Proto: xfrm.ESP, Reqid: 1}}
			if got := w.send(p); got.met(rules.PurposeLeak) {
				t.Error("an error that goes through the tunnel was stopped")
			}
		})
	}
}

// Where a local selector lies within the remote one, an error to a local host is
// an error to the remote selector too: that it is about a local host's flow does
// not make it the tunnel's.
func TestErrorsWithinOverlappingSelectors(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{"10.20.0.0/16", "10.16.0.0/12"}}
	far, here, web := addr("10.21.0.10"), addr("10.20.0.10"), addr("198.51.100.7")
	host := sunHost()
	host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("10.20.0.0/16"), Link: 3, Via: addr("10.2.0.254")})
	for name, w := range states(t, host, s) {
		for _, tc := range []struct {
			name string
			to   netip.Addr
			ct   trace.Conntrack
			want bool
		}{
			{"of no flow", far, trace.Conntrack{}, true},
			{"of a flow from the far side", far, trace.Conntrack{State: rules.CtRelated, OrigSrc: far, OrigDst: here, ReplSrc: web}, true},
			{"of a flow to the far side", far, trace.Conntrack{State: rules.CtRelated, OrigSrc: here, OrigDst: far, ReplSrc: web}, true},
			{"of a port-forwarded flow", far, trace.Conntrack{State: rules.CtRelated, OrigSrc: far, OrigDst: web, ReplSrc: here}, true},
			{"of a local host's flow to the internet", here, trace.Conntrack{State: rules.CtRelated, OrigSrc: here, OrigDst: web, ReplSrc: web}, false},
		} {
			p := trace.Packet{Src: addr(sunWAN), Dst: tc.to, Out: "eth0", SrcLocal: true, Proto: xfrm.ICMP, ICMPType: 3, Ct: tc.ct}
			if w.leaks(p) != tc.want {
				t.Errorf("%s: an error %s: stopped %v, want %v", name, tc.name, !tc.want, tc.want)
			}
		}
	}
}

// While the tunnel is down its virtual IP is gone, so the destination decides.
func TestVirtualIPGone(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{"10.99.0.5/32", moonLAN}}
	host := sunHost()
	p := trace.Packet{Src: addr(sunWAN), Dst: addr("10.1.0.10"), Out: "eth0", SrcLocal: true, Proto: xfrm.TCP}
	for name, w := range states(t, host, s) {
		got := w.send(p)
		if stopped := got.final == rules.Drop || got.final == rules.Reject; stopped != (name != "up") {
			t.Errorf("%s: verdict %s", name, got.final)
		}
	}
	// The remote selector can lie over the LAN too, which is spared.
	wide := s
	wide.Pairs = [][2]string{{"10.99.0.5/32", "10.0.0.0/8"}}
	for name, w := range states(t, host, wide) {
		if w.leaks(p) != (name != "up") {
			t.Errorf("%s, with a wide remote: stopped %v", name, name == "up")
		}
		if w.leaks(trace.Packet{Src: addr("10.2.0.1"), Dst: addr("10.2.0.10"), Out: "eth1", SrcLocal: true}) {
			t.Errorf("%s, with a wide remote: the LAN was cut", name)
		}
		// Its source would be rewritten after all hooks: another tunnel shows its policy.
		nated := trace.Packet{Src: addr("10.99.0.5"), Dst: addr("10.1.0.10"), Out: "eth0", SrcLocal: true, OutBundle: []xfrm.Transform{{Proto: xfrm.ESP, Reqid: 9}}}
		for _, ct := range []trace.Conntrack{{State: rules.CtSNAT, Dir: rules.CtOriginal, ReplDst: addr(sunWAN)}, {State: rules.CtDNAT, Dir: rules.CtReply, OrigDst: addr(sunWAN)}} {
			nated.Ct = ct
			if !w.leaks(nated) {
				t.Errorf("%s, with a wide remote: a rewritten flow left: %+v", name, ct)
			}
		}
	}
	for name, w := range states(t, host, s) {
		nated := trace.Packet{Src: addr("10.99.0.5"), Dst: addr("10.1.0.10"), Out: "eth0", SrcLocal: true, OutBundle: []xfrm.Transform{{Proto: xfrm.ESP, Reqid: 9}}}
		for _, ct := range []trace.Conntrack{{State: rules.CtSNAT, Dir: rules.CtOriginal, ReplDst: addr(sunWAN)}, {State: rules.CtDNAT, Dir: rules.CtReply, OrigDst: addr(sunWAN)}} {
			nated.Ct = ct
			if !w.leaks(nated) {
				t.Errorf("%s: a rewritten flow left: %+v", name, ct)
			}
		}
	}
	// A packet that SNAT maps into a local selector has no such source in any hook.
	mapped := firewall.Input{NATSources: []netip.Prefix{netip.MustParsePrefix("10.2.0.9/32")}}
	trap := sunSite()
	trap.Down = true
	p.Src = addr("192.168.7.5")
	if got := compileInput(t, snapshotOf(host, trap), mapped).forward(p); got.final != rules.Reject {
		t.Errorf("SNATed into the selector while down: verdict %s", got.final)
	}
	if got := compileInput(t, snapshotOf(host, sunSite()), mapped).forward(p); got.final == rules.Reject || got.final == rules.Drop {
		t.Errorf("SNATed into the selector while up: verdict %s", got.final)
	}
}

func bypass(src, dst string, dir xfrm.Dir, priority uint32) xfrm.Policy {
	s, d := netip.MustParsePrefix(src), netip.MustParsePrefix(dst)
	return xfrm.Policy{Selector: xfrm.Selector{Family: xfrm.FamilyOf(s.Addr()), Src: s, Dst: d}, Dir: dir, Priority: priority}
}

func TestExceptionsInPolicyOrder(t *testing.T) {
	for _, tc := range []struct {
		name     string
		priority uint32
		pierces  bool
	}{{"before the tunnel", 10, true}, {"after the tunnel", 9000, false}} {
		t.Run(tc.name, func(t *testing.T) {
			s := snapshotOf(sunHost(), sunSite())
			s.Policies = append(s.Policies,
				bypass("10.1.0.128/25", sunLAN, xfrm.In, tc.priority), bypass("10.1.0.128/25", sunLAN, xfrm.Fwd, tc.priority),
				bypass(sunLAN, "10.1.0.128/25", xfrm.Out, tc.priority))
			w := compileWorld(t, s, firewall.Config{})
			if got := w.arrive(clear4("10.1.0.200", "10.2.0.10"), nil); (got.final != rules.Drop) != tc.pierces {
				t.Errorf("in: verdict %s", got.final)
			}
			if got := w.forward(trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.200"), Out: "eth0"}); (got.final == rules.Return) != tc.pierces {
				t.Errorf("out: verdict %s", got.final)
			}
			if got := w.arrive(clear4("10.1.0.10", "10.2.0.10"), nil); got.final != rules.Drop {
				t.Errorf("outside the exception: verdict %s", got.final)
			}
		})
	}
}

// A remote selector over the gateway's own LAN must not cut the LAN from it.
func TestWideRemoteOverLAN(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{sunLAN, "10.0.0.0/8"}}
	for name, w := range states(t, sunHost(), s) {
		t.Run(name, func(t *testing.T) {
			lan := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.2.0.1"), In: "eth1", DstLocal: true, Proto: xfrm.TCP}
			if got := w.arrive(lan, nil); got.final == rules.Drop {
				t.Error("a LAN host was cut from its gateway")
			}
			back := trace.Packet{Src: addr("10.2.0.1"), Dst: addr("10.2.0.10"), Out: "eth1", SrcLocal: true, Proto: xfrm.TCP}
			if got := w.send(back); got.final != rules.Return {
				t.Errorf("the gateway was cut from a LAN host: verdict %s", got.final)
			}
			lan.In = "eth0"
			if got := w.arrive(lan, nil); got.final != rules.Drop {
				t.Error("a LAN address from the WAN came in")
			}
			if got := w.arrive(clear4("10.1.0.10", "10.2.0.10"), nil); got.final != rules.Drop {
				t.Error("a remote address came in")
			}
		})
	}
}

// Host to host on one segment: the peer's own address is guarded, though it is
// in a connected network; its IKE is not cut.
func TestPeerOnConnectedNetwork(t *testing.T) {
	s := sample.Site{Reqid: 1, Local: sunWAN, Remote: moonWAN, Transport: true, Pairs: [][2]string{{sunWAN + "/32", moonWAN + "/32"}}}
	for name, w := range states(t, sunHost(), s) {
		t.Run(name, func(t *testing.T) {
			p := trace.Packet{Src: addr(moonWAN), Dst: addr(sunWAN), In: "eth0", DstLocal: true, Proto: xfrm.TCP}
			if got := w.arrive(p, nil); got.final != rules.Drop {
				t.Errorf("cleartext of the peer: verdict %s", got.final)
			}
			p.Proto, p.SPort, p.DPort = xfrm.UDP, 500, 500
			if got := w.arrive(p, nil); got.final != rules.Accept {
				t.Errorf("its IKE: verdict %s", got.final)
			}
			out := trace.Packet{Src: addr(sunWAN), Dst: addr(moonWAN), Out: "eth0", SrcLocal: true, Proto: xfrm.TCP}
			if got := w.send(out); got.final != rules.Drop && got.final != rules.Reject {
				t.Errorf("cleartext to the peer: verdict %s", got.final)
			}
			out.Src, out.Proto, out.ICMPType = addr("10.2.0.1"), xfrm.ICMP, 3
			if !w.leaks(out) {
				t.Error("an error that quotes the peer's packet went to it in clear")
			}
		})
	}
}

func TestXfrmInterfaceGuards(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "ipsec0", Kind: "xfrm", IfID: 7})
	host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix(moonLAN), Link: 4, Connected: true})
	s := sunSite()
	s.IfID, s.Pairs = 7, [][2]string{{"0.0.0.0/0", "0.0.0.0/0"}}
	for name, w := range states(t, host, s) {
		t.Run(name, func(t *testing.T) {
			if got := w.arrive(clear4("10.1.0.10", "10.2.0.10"), nil); got.final != rules.Drop {
				t.Errorf("spoof: verdict %s", got.final)
			}
			if got := w.arrive(clear4("198.51.100.7", "10.2.0.10"), nil); got.final == rules.Drop {
				t.Error("a 0/0 pair of an interface was taken for a guard")
			}
			p := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0"}
			if got := w.forward(p); got.final != rules.Reject {
				t.Errorf("leak: verdict %s", got.final)
			}
			if name == "remembered" {
				return
			}
			p.Out = "ipsec0"
			if got := w.forward(p); got.final != rules.Accept {
				t.Errorf("into the device: verdict %s", got.final)
			}
		})
	}
}

func TestCrossedLeavesOthersAlone(t *testing.T) {
	s := snapshotOf(sunHost(), sunSite())
	w := compileWorld(t, s, firewall.Config{})
	p := tagged(from(1, "10.77.0.9", "10.2.0.10"))
	if got := w.arrive(p, nil); got.final != rules.Drop || !got.met(rules.PurposeCrossed) {
		t.Errorf("known reqid, foreign source: verdict %s", got.final)
	}
	p = tagged(from(9, "10.77.0.9", "10.2.0.10"))
	if got := w.arrive(p, nil); got.final != rules.Return || !got.met(rules.PurposeUnknown) || got.mark&verified != 0 {
		t.Errorf("unknown reqid, nobody's source: verdict %s, mark %#x", got.final, got.mark)
	}
	p = tagged(from(9, "10.1.0.9", "10.2.0.10"))
	if got := w.arrive(p, nil); got.final != rules.Drop || !got.met(rules.PurposeCrossed) {
		t.Errorf("unknown reqid, a live tunnel's source: verdict %s", got.final)
	}
}

// A packet that the configuration's remote: takes from a peer is none of unknown origin,
// and may not come in because nobody else owns it at the time.
func TestCrossedByCap(t *testing.T) {
	s := sunSite()
	s.Pairs = append(s.Pairs, [2]string{sunLAN, "10.3.0.0/24"})
	w := compileWorld(t, snapshotOf(sunHost(), s), firewall.Config{Tunnels: []firewall.TunnelConfig{
		{Match: firewall.Match{Reqid: 1}, Remote: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/24")}},
	}})
	if got := w.arrive(tagged(from(1, "10.3.0.9", "10.2.0.10")), nil); got.final != rules.Accept {
		t.Errorf("within the cap: verdict %s", got.final)
	}
	if got := w.arrive(tagged(from(1, "10.1.0.9", "10.2.0.10")), nil); got.final != rules.Drop || !got.met(rules.PurposeCrossed) {
		t.Errorf("outside the cap: verdict %s", got.final)
	}
}

func TestFullTunnelClient(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{"10.99.0.5/32", "0.0.0.0/0"}}
	w := compileWorld(t, snapshotOf(sunHost(), s), firewall.Config{})
	if got := w.arrive(clear4("198.51.100.7", "10.99.0.5"), nil); got.final != rules.Drop {
		t.Errorf("to the virtual IP in clear: verdict %s", got.final)
	}
	out := trace.Packet{Src: addr("10.99.0.5"), Dst: addr("198.51.100.7"), Out: "eth0", SrcLocal: true}
	if got := w.send(out); got.final != rules.Drop {
		t.Errorf("from the virtual IP in clear: verdict %s", got.final)
	}
	ike := trace.Packet{Src: addr(sunWAN), Dst: addr(moonWAN), Out: "eth0", SrcLocal: true, Proto: xfrm.UDP, SPort: 4500, DPort: 4500}
	if got := w.send(ike); got.final != rules.Accept {
		t.Errorf("IKE: verdict %s", got.final)
	}
}

// A chain's name is the same in every run of the program: a second apply would
// write it anew otherwise.
func TestChainNamesAreTheSameInEveryRun(t *testing.T) {
	g := guard.Guard{Local: netip.MustParsePrefix(sunLAN), Remote: netip.MustParsePrefix("10.0.0.0/8"), Source: guard.FromPolicy, Tunnel: "t0123456789"}
	if got, want := lanChain("S", &firewall.GuardFacts{Guard: g}), "XFRMFW-LAN-S-9WYVJkKlqj-"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := tree.NodeName(layout.ChainSel, netip.MustParsePrefix("fd00:1::/32")), "XFRMFW-SEL-8EuWnIhd6XMq"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// An error about a flow with one end in a remote selector over the LAN is judged
// whichever end began the flow.
func TestQuotedBesideLANByEitherEnd(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{"192.168.7.0/24", "10.0.0.0/8"}}
	quotedByEitherEnd(t, s)
}

// With so many pairs the two trees are split, and each end is found in its own: that of
// the pair beside the LAN, and those in the leaves. Judge says the same.
func TestQuotedErrorsInSplitTrees(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{"192.168.7.0/24", "10.0.0.0/8"}}
	for i := range 200 { // no two are neighbours, which one rule would match
		s.Pairs = append(s.Pairs, [2]string{"192.168.8.0/24", fmt.Sprintf("172.%d.%d.0/24", 16+i/100, 2*(i%100))})
	}
	quotedByEitherEnd(t, s)
	near := addr("192.168.8.5")
	for name, w := range states(t, sunHost(), s) {
		for far, want := range map[string]bool{"172.16.0.9": true, "172.16.78.9": true, "172.17.198.9": true, "172.17.77.9": false} {
			far := addr(far)
			for _, ends := range [][2]netip.Addr{{far, near}, {near, far}} {
				ct := trace.Conntrack{State: rules.CtRelated, OrigSrc: ends[0], OrigDst: ends[1], ReplSrc: ends[1], ReplDst: ends[0]}
				p := trace.Packet{Src: addr("198.51.100.7"), Dst: near, In: "eth0", Proto: xfrm.ICMP, ICMPType: 3, Ct: ct}
				if got := w.arrive(p, nil); got.met(rules.PurposeSpoof) != want {
					t.Errorf("%s: an error about the flow from %s to %s: stopped %v, want %v", name, ends[0], ends[1], !want, want)
				}
				at := firewall.Ends{Src: p.Src, Dst: near}
				judged := firewall.Judge(&w.result.Facts, firewall.Passage{
					Way: firewall.Through, In: "eth0", Out: "eth1", Proto: xfrm.ICMP, ICMPType: 3, Received: at, AfterDNAT: at, Sent: at,
					Flow: firewall.Flow{Related: true, OrigSrc: ends[0], OrigDst: ends[1], ReplySrc: ends[1], ReplyDst: ends[0]},
				})
				if (judged == firewall.Verdict{Action: firewall.Discard, Case: firewall.Case6}) != want {
					t.Errorf("%s: an error about the flow from %s to %s: Judge says %v", name, ends[0], ends[1], judged)
				}
			}
		}
	}
}

func quotedByEitherEnd(t *testing.T, s sample.Site) {
	t.Helper()
	far, here := addr("10.1.0.10"), addr("192.168.7.5")
	for name, w := range states(t, sunHost(), s) {
		for _, ct := range []trace.Conntrack{
			{State: rules.CtRelated, OrigSrc: far, OrigDst: here, ReplSrc: here, ReplDst: far},
			{State: rules.CtRelated, OrigSrc: here, OrigDst: far, ReplSrc: far, ReplDst: here},
		} {
			p := trace.Packet{Src: addr("198.51.100.7"), Dst: here, In: "eth0", Proto: xfrm.ICMP, ICMPType: 3, Ct: ct}
			if got := w.arrive(p, nil); !got.met(rules.PurposeSpoof) {
				t.Errorf("%s: an error about the flow from %s was let in", name, ct.OrigSrc)
			}
		}
	}
}
