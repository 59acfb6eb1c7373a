package compile

import (
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// Packets that no guard may stop, even where a selector covers them: each packet here is
// between a local and a remote selector, and in clear.
func TestNeverJudged(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{sunWAN + "/32", moonWAN + "/32"}, {sun6WAN + "/128", moon6WAN + "/128"}, {sunLAN, moonLAN}, {"0.0.0.0/0", "10.40.0.0/16"}, {"::/0", "fd00:40::/32"}}
	for name, w := range states(t, sunHost(), s) {
		// IKE, ESP and AH are not opened on eth0, but no guard stops them either.
		// A bypass policy for packets to this host alone gives INPUT a tree of its own.
		bypassed := w.snapshot
		bypassed.Policies = append(slices.Clone(bypassed.Policies), bypass("10.40.9.0/24", sunLAN, xfrm.In, 10), bypass("fd00:40:9::/64", sun6LAN, xfrm.In, 10))
		for _, tc := range []struct {
			snapshot xfrm.Snapshot
			config   firewall.Config
		}{{snapshot: w.snapshot}, {snapshot: w.snapshot, config: firewall.Config{WAN: []string{"eth9"}}}, {snapshot: bypassed}} {
			config := tc.config
			w := compileInput(t, tc.snapshot, firewall.Input{Config: config, Guards: w.result.InForce()})
			ends := func(src, dst string) trace.Packet {
				return trace.Packet{Src: addr(src), Dst: addr(dst), In: "eth0", Out: "eth0", DstLocal: true, SrcLocal: true}
			}
			outward := func(p trace.Packet, proto xfrm.Proto, port uint16) trace.Packet {
				p.Proto, p.SPort = proto, port
				return p
			}
			inward := func(p trace.Packet, proto xfrm.Proto, port uint16) trace.Packet {
				p.Proto, p.DPort = proto, port
				return p
			}
			dhcpOut, dhcpIn := outward(ends(sunWAN, moonWAN), xfrm.UDP, 68), inward(ends(moonWAN, sunWAN), xfrm.UDP, 68)
			dhcpOut.DPort, dhcpIn.SPort = 67, 67
			dhcp6Out, dhcp6In := outward(ends(sun6WAN, moon6WAN), xfrm.UDP, 546), inward(ends(moon6WAN, sun6WAN), xfrm.UDP, 546)
			dhcp6Out.DPort, dhcp6In.SPort = 547, 547
			out := []trace.Packet{
				dhcpOut, dhcp6Out,
				outward(ends(sunWAN, moonWAN), xfrm.UDP, 500), outward(ends(sunWAN, moonWAN), xfrm.UDP, 4500),
				outward(ends(sunWAN, moonWAN), xfrm.ESP, 0), outward(ends(sunWAN, moonWAN), xfrm.AH, 0),
				outward(ends(sun6WAN, moon6WAN), xfrm.ESP, 0),
				ends("0.0.0.0", "10.40.0.1"), ends("169.254.1.1", "10.40.0.1"), ends("fe80::1", "fd00:40::1"), ends("::", "fd00:40::1"),
			}
			in := []trace.Packet{
				dhcpIn, dhcp6In,
				inward(ends(moonWAN, sunWAN), xfrm.UDP, 500), inward(ends(moonWAN, sunWAN), xfrm.UDP, 4500),
				inward(ends(moonWAN, sunWAN), xfrm.ESP, 0), inward(ends(moonWAN, sunWAN), xfrm.AH, 0),
				inward(ends(moon6WAN, sun6WAN), xfrm.ESP, 0),
				ends("10.40.0.1", "224.0.0.5"), ends("10.40.0.1", "255.255.255.255"), ends("10.40.0.1", "169.254.1.1"),
				ends("fd00:40::1", "ff02::5"), ends("fd00:40::1", "fe80::1"),
			}
			for kind := uint8(133); kind <= 136; kind++ {
				nd := outward(ends(sun6WAN, moon6WAN), xfrm.ICMPv6, 0)
				nd.ICMPType = kind
				out = append(out, nd)
				nd = inward(ends(moon6WAN, sun6WAN), xfrm.ICMPv6, 0)
				nd.ICMPType, nd.FailsRPFilter = kind, true
				in = append(in, nd)
			}
			for _, p := range out {
				if got := w.send(p); got.final == rules.Drop || got.final == rules.Reject {
					t.Errorf("%s, WAN %v: %s %s to %s, %d to %d, was stopped: %v", name, config.WAN, p.Proto, p.Src, p.Dst, p.SPort, p.DPort, got.steps)
				}
			}
			for _, p := range in {
				if got := w.arrive(p, nil); got.final == rules.Drop {
					t.Errorf("%s, WAN %v: %s %s to %s, %d to %d, was stopped: %v", name, config.WAN, p.Proto, p.Src, p.Dst, p.SPort, p.DPort, got.steps)
				}
			}
		}
	}
}

func TestInjectExempt(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{"0.0.0.0/0", moonLAN}, {"0.0.0.0/0", "224.0.0.0/3"}}
	w := compileWorld(t, snapshotOf(sunHost(), s), firewall.Config{Guard: guard.Config{Asymmetric: []string{"eth3"}}})
	for _, p := range []trace.Packet{
		{Src: addr("0.0.0.0"), Dst: addr("10.1.0.1"), In: "eth0"}, {Src: addr("10.2.0.9"), Dst: addr("224.0.0.9"), In: "eth0"},
		{Src: addr("10.2.0.9"), Dst: addr("10.1.0.1"), In: "eth3"},
	} {
		p.FailsRPFilter = true
		if got := w.arrive(p, nil); got.met(rules.PurposeInject) {
			t.Errorf("%s to %s by %s was taken for a stranger's", p.Src, p.Dst, p.In)
		}
	}
	p := trace.Packet{Src: addr("10.2.0.9"), Dst: addr("10.1.0.1"), In: "eth0", FailsRPFilter: true}
	if got := w.arrive(p, nil); !got.met(rules.PurposeInject) {
		t.Error("a stranger's packet into a tunnel with any source was not stopped")
	}
	s.Pairs = [][2]string{{sunLAN, moonLAN}}
	snapshot := snapshotOf(sunHost(), s)
	snapshot.Policies = append(snapshot.Policies, bypass(sunLAN, "10.1.0.128/25", xfrm.Out, 10))
	w = compileWorld(t, snapshot, firewall.Config{})
	p.Dst = addr("10.1.0.200")
	if got := w.arrive(p, nil); got.met(rules.PurposeInject) {
		t.Error("what a bypass policy leaves alone was judged")
	}
}

// The guards of a pair with a wider remote than a connected network hold for
// all but that network, in every case and state.
func TestWideRemoteInEveryCase(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{sunLAN, "10.0.0.0/8"}}
	for name, w := range states(t, sunHost(), s) {
		lan, far := addr("10.2.0.10"), addr("10.1.0.10")
		quoting := trace.Packet{Src: addr(sunWAN), Dst: far, Out: "eth0", SrcLocal: true, Proto: xfrm.ICMP, ICMPType: 3}
		for _, ct := range []trace.Conntrack{
			{}, {State: rules.CtRelated, OrigSrc: far, OrigDst: lan, ReplSrc: addr(sunWAN)}, {State: rules.CtRelated, OrigSrc: far, OrigDst: addr(sunWAN), ReplSrc: lan},
		} {
			quoting.Ct = ct
			for _, kind := range []uint8{3, 11, 12} {
				quoting.ICMPType = kind
				if got := w.send(quoting); !got.met(rules.PurposeLeak) {
					t.Errorf("%s: an ICMP error %d of %+v to the far side left", name, kind, ct)
				}
			}
		}
		quoting.Ct, quoting.Dst, quoting.Out = trace.Conntrack{}, addr("10.2.0.66"), "eth1"
		if got := w.send(quoting); got.met(rules.PurposeLeak) {
			t.Errorf("%s: an ICMP error to the LAN was stopped", name)
		}
		old := trace.Packet{Src: lan, Dst: far, In: "eth1", Out: "eth0", OutBundle: []xfrm.Transform{{Proto: xfrm.ESP, Reqid: 1}}}
		for _, ct := range []trace.Conntrack{
			{State: rules.CtSNAT, Dir: rules.CtOriginal, ReplDst: addr(sunWAN)}, {State: rules.CtDNAT, Dir: rules.CtReply, OrigDst: addr(sunWAN)},
		} {
			old.Ct = ct
			if got := w.forward(old); !got.met(rules.PurposeLeak) {
				t.Errorf("%s: a rewritten flow left", name)
			}
		}
		if got := w.forward(trace.Packet{Src: lan, Dst: far, In: "eth1", Out: "eth0"}); got.final != rules.Reject {
			t.Errorf("%s: a leak was not refused: %s", name, got.final)
		}
	}
}

// This host's own IPsec goes to a peer whose address lies in the remote selector of a tunnel
// that is gone, also by an interface that is not configured as WAN. Its other packets to
// there are refused.
func TestOwnIPsecIntoTheSelectorOfATunnelThatIsGone(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{"0.0.0.0/0", "10.40.0.0/16"}}
	gone := states(t, sunHost(), s)["remembered"]
	w := compileInput(t, gone.snapshot, firewall.Input{Config: firewall.Config{WAN: []string{"eth9"}}, Guards: gone.result.InForce()})
	for _, tc := range []struct {
		proto xfrm.Proto
		port  uint16
		want  rules.Verb
	}{
		{xfrm.ESP, 0, rules.Return}, {xfrm.AH, 0, rules.Return}, {xfrm.UDP, 500, rules.Return}, {xfrm.UDP, 4500, rules.Return},
		{xfrm.UDP, 501, rules.Reject}, {xfrm.TCP, 500, rules.Reject},
	} {
		ends := firewall.Ends{Src: addr(sunWAN), Dst: addr("10.40.0.1"), SPort: tc.port, DPort: tc.port}
		p := trace.Packet{Src: ends.Src, Dst: ends.Dst, Out: "eth0", SrcLocal: true, Proto: tc.proto, SPort: tc.port, DPort: tc.port}
		if got := w.send(p); got.final != tc.want {
			t.Errorf("%s from port %d: %s, want %s; met %v", tc.proto, tc.port, got.final, tc.want, got.steps)
		}
		judged := firewall.Judge(&w.result.Facts, firewall.Passage{
			Way: firewall.FromHost, Out: "eth0", Proto: tc.proto, SrcLocal: true, Received: ends, AfterDNAT: ends, Sent: ends,
		})
		if (judged.Action == firewall.Refuse) != (tc.want == rules.Reject) {
			t.Errorf("%s from port %d: Judge says %v", tc.proto, tc.port, judged)
		}
	}
}

// Effects of single rules that would go unnoticed, because other rules overlap them.
func TestSecondLines(t *testing.T) {
	accepted := func(name string, got passage) {
		t.Helper()
		if got.final != rules.Accept {
			t.Errorf("%s: verdict %s; met %v", name, got.final, got.steps)
		}
	}
	// The gateway's own IPsec goes out.
	w := compileWorld(t, snapshotOf(sunHost(), sunSite()), firewall.Config{})
	own := trace.Packet{Src: addr(sunWAN), Dst: addr(moonWAN), Out: "eth0", SrcLocal: true}
	for _, proto := range []xfrm.Proto{xfrm.ESP, xfrm.AH} {
		own.Proto = proto
		accepted("own "+proto.String(), w.send(own))
	}
	odd := sunSite()
	odd.Tune = func(s *xfrm.State, _ bool, _ int) { s.Encap = xfrm.Encap{Type: 2, SPort: 14500, DPort: 14500} }
	own.Proto, own.SPort = xfrm.UDP, 14500
	accepted("own ESP in UDP from an odd port", compileWorld(t, snapshotOf(sunHost(), odd), firewall.Config{}).send(own))

	// A flow that began at the far side: its errors come back too.
	icmp := tagged(from(1, "172.16.9.9", "10.2.0.10"))
	icmp.Proto, icmp.ICMPType = xfrm.ICMP, 3
	icmp.Ct = trace.Conntrack{State: rules.CtRelated, OrigSrc: addr("10.1.0.10"), OrigDst: addr("10.2.0.10"), ReplSrc: addr("10.2.0.10")}
	accepted("an error about the far side's flow", w.arrive(icmp, nil))

	// A flow NATed before the tunnel came up, with one local selector.
	old := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", OutBundle: []xfrm.Transform{{Proto: xfrm.ESP, Reqid: 1}}}
	for _, ct := range []trace.Conntrack{{State: rules.CtSNAT, Dir: rules.CtOriginal, ReplDst: addr(sunWAN)}, {State: rules.CtDNAT, Dir: rules.CtReply, OrigDst: addr(sunWAN)}} {
		old.Ct = ct
		if got := w.forward(old); !got.met(rules.PurposeLeak) {
			t.Errorf("a rewritten flow left: %+v", ct)
		}
	}

	// Loopback is not looked at, whatever bits a local program sets.
	if got := w.arrive(trace.Packet{Src: addr("10.2.0.1"), Dst: addr("10.2.0.1"), In: "lo", DstLocal: true, Mark: tag}, nil); got.met(rules.PurposeStray) {
		t.Error("a packet on lo was judged")
	}

	// A carrier with an outer packet that netfilter did not see.
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "gre1", Kind: "gre", Local: addr(sunWAN), Remote: addr(moonWAN)})
	carried := sample.Site{Reqid: 1, Local: sunWAN, Remote: moonWAN, Transport: true, Proto: xfrm.GRE, Pairs: [][2]string{{sunWAN + "/32", moonWAN + "/32"}}}
	gre := compileWorld(t, snapshotOf(host, carried), firewall.Config{Tunnels: []firewall.TunnelConfig{{Match: firewall.Match{Reqid: 1}, In: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(22)}}, Out: []firewall.Service{{Proto: xfrm.TCP, Ports: firewall.Port(22)}}}}})
	carrier := from(1, moonWAN, sunWAN)
	carrier.Proto, carrier.DstLocal = xfrm.GRE, true
	accepted("a carrier without the tag", gre.arrive(carrier, nil))
	inner := trace.Packet{Src: addr("10.50.0.1"), Dst: addr("10.2.0.1"), In: "gre1", DstLocal: true, Proto: xfrm.TCP, DPort: 22, Mark: verified}
	accepted("out of GRE to the gateway itself", gre.arrive(inner, nil))
	inner.DPort = 80
	if got := gre.arrive(inner, nil); got.final != rules.Drop {
		t.Errorf("out of GRE to the gateway itself, restricted: verdict %s", got.final)
	}
	into := trace.Packet{Src: addr("10.2.0.1"), Dst: addr("10.50.0.1"), Out: "gre1", SrcLocal: true, Proto: xfrm.TCP, DPort: 80}
	if got := gre.send(into); got.final != rules.Reject {
		t.Errorf("the gateway's own into GRE, restricted: verdict %s", got.final)
	}

	// Packets of a greedy policy may hold bits from a tunnel around it.
	greedy := sunSite()
	greedy.Mark = xfrm.Mark{Value: 0, Mask: 0xffffffff}
	g := compileWorld(t, snapshotOf(sunHost(), greedy), firewall.Config{})
	nested := tagged(from(1, "10.1.0.10", "10.2.0.10"))
	if got := g.arrive(nested, nil); got.mark != 0 {
		t.Errorf("mark %#x on what the kernel looks up by the whole mark", got.mark)
	}
	nested.DstLocal = true
	accepted("a greedy policy's packet to the gateway itself", g.arrive(nested, nil))
	esp := trace.Packet{Src: addr(moonWAN), Dst: addr(sunWAN), In: "eth0", DstLocal: true, Proto: xfrm.ESP, Mark: tag, SecPath: []xfrm.Transform{{Proto: xfrm.ESP, Reqid: 77}}}
	if got := g.arrive(esp, nil); got.mark != 0 {
		t.Errorf("mark %#x on the outer packet of a greedy policy's state", got.mark)
	}

	// An exception holds for the errors too.
	s := snapshotOf(sunHost(), sunSite())
	s.Policies = append(s.Policies, bypass(sunLAN, "10.1.0.128/25", xfrm.Out, 10))
	pierced := compileWorld(t, s, firewall.Config{})
	err := trace.Packet{Src: addr("10.2.0.1"), Dst: addr("10.1.0.200"), Out: "eth0", SrcLocal: true, Proto: xfrm.ICMP, ICMPType: 3}
	if got := pierced.send(err); got.met(rules.PurposeLeak) {
		t.Error("an error along a bypass policy was stopped")
	}

	// A nested packet brings the VERIFIED of the tunnel around it: it is decided anew.
	twice := tagged(from(9, "10.77.0.9", "10.2.0.10"))
	twice.Mark |= verified
	if got := w.arrive(twice, nil); got.mark&verified != 0 || got.final == rules.Accept {
		t.Error("the verdict on an outer packet was taken for its payload's")
	}

	// DHCPv6 under lockdown.
	locked := compileWorld(t, snapshotOf(sunHost()), firewall.Config{WAN: []string{"eth0"}, Lockdown: &firewall.Lockdown{}})
	accepted("DHCPv6 under lockdown", locked.arrive(trace.Packet{Src: addr("fe80::1"), Dst: addr("fe80::2"), In: "eth0", DstLocal: true, Proto: xfrm.UDP, SPort: 547, DPort: 546}, nil))
}
