package compile

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// The tests here check the verdict on a packet, case by case of the verdict table.

func TestVerified(t *testing.T) {
	six := sample.Site{Reqid: 6, Local: sunWAN, Remote: moonWAN, Pairs: [][2]string{{sun6LAN, moon6LAN}}}
	ports := sample.Site{Reqid: 7, Local: sunWAN, Remote: moonWAN, Pairs: [][2]string{{sunLAN, "10.7.0.0/24"}}, Proto: xfrm.TCP, Port: 22}
	w := compileWorld(t, snapshotOf(sunHost(), sunSite(), six, ports), firewall.Config{})
	ssh := from(7, "10.7.0.9", "10.2.0.10")
	ssh.DPort = 22
	for _, tc := range []struct {
		name   string
		packet trace.Packet
		want   rules.Verb
		rule   rules.Purpose
	}{
		{"policy, selectors and tag", tagged(from(1, "10.1.0.10", "10.2.0.10")), rules.Accept, rules.PurposeVerified},
		{"without tag, which could have been had", from(1, "10.1.0.10", "10.2.0.10"), rules.Accept, rules.PurposeUnconfirmed},
		{"v6 inside v4", tagged(from(6, "fd00:1::10", "fd00:2::10")), rules.Accept, rules.PurposeVerified},
		{"source outside the remote selector", tagged(from(1, "10.9.0.10", "10.2.0.10")), rules.Drop, rules.PurposeCrossed},
		{"destination outside the local selector", tagged(from(1, "10.1.0.10", "10.3.0.10")), rules.Drop, rules.PurposeCrossed},
		{"another tunnel's reqid", tagged(from(6, "10.1.0.10", "10.2.0.10")), rules.Drop, rules.PurposeCrossed},
		{"a reqid not known yet", tagged(from(99, "10.1.0.10", "10.2.0.10")), rules.Drop, rules.PurposeCrossed},
		{"a reqid not known yet, from where nobody is", tagged(from(99, "10.66.0.10", "10.2.0.10")), rules.Return, rules.PurposeUnknown},
		{"the right port", tagged(ssh), rules.Accept, rules.PurposeVerified},
		{"the wrong port", tagged(from(7, "10.7.0.9", "10.2.0.10")), rules.Drop, rules.PurposeCrossed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, local := range []bool{false, true} {
				tc.packet.DstLocal = local
				got := w.arrive(tc.packet, nil)
				if got.final != tc.want || !got.met(tc.rule) {
					t.Errorf("local %v: verdict %s, want %s by a rule %q; met %v", local, got.final, tc.want, tc.rule, got.steps)
				}
				if isSet := got.mark&verified != 0; isSet != (tc.want == rules.Accept) {
					t.Errorf("local %v: VERIFIED is %v", local, isSet)
				}
			}
		})
	}
}

// Cleartext never becomes verified, whatever bits it carries (case 5); and from
// a remote selector to its local one it is dropped (case 6).
func TestCleartextNeverVerified(t *testing.T) {
	w := compileWorld(t, snapshotOf(sunHost(), sunSite()), firewall.Config{})
	restore := func(p *trace.Packet) { p.Mark |= tag | verified }
	bits := func(p trace.Packet, mark uint32) trace.Packet { p.Mark = mark; return p }
	proto := func(p trace.Packet, proto xfrm.Proto, port uint16) trace.Packet {
		p.Proto, p.SPort, p.DPort = proto, port, port
		return p
	}
	spoofed, stranger := clear4("10.1.0.10", "10.2.0.10"), clear4("198.51.100.7", "10.2.0.10")
	for _, tc := range []struct {
		name    string
		packet  trace.Packet
		between func(*trace.Packet)
		want    rules.Verb
		stray   bool
	}{
		{"a stranger's", stranger, nil, rules.Return, false},
		{"with our bits on arrival", bits(stranger, tag|verified), nil, rules.Return, true},
		{"with only the tag", bits(stranger, tag), nil, rules.Return, true},
		{"bits restored by another program's rule", stranger, restore, rules.Return, true},
		{"UDP 4500 in transit", proto(stranger, xfrm.UDP, 4500), nil, rules.Return, false},
		{"ESP in transit", proto(stranger, xfrm.ESP, 0), nil, rules.Return, false},
		{"with a tunnel's source", spoofed, nil, rules.Drop, false},
		{"with a tunnel's source and our bits", bits(spoofed, tag|verified), nil, rules.Drop, true},
		{"with a tunnel's source and bits restored", spoofed, restore, rules.Drop, false},
		{"ESP in transit with a tunnel's source", proto(spoofed, xfrm.ESP, 0), nil, rules.Drop, false},
		{"UDP 4500 in transit with a tunnel's source", proto(spoofed, xfrm.UDP, 4500), nil, rules.Drop, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, local := range []bool{false, true} {
				p := tc.packet
				p.DstLocal = local
				if local && p.Proto != xfrm.TCP {
					continue // to the gateway itself it is IPsec, for the kernel to refuse
				}
				got := w.arrive(p, tc.between)
				if got.final != tc.want || got.mark&verified != 0 {
					t.Errorf("local %v: verdict %s, mark %#x: want %s and not verified", local, got.final, got.mark, tc.want)
				}
				if got.met(rules.PurposeSpoof) != (tc.want == rules.Drop) {
					t.Errorf("local %v: counted as spoof: %v", local, tc.want != rules.Drop)
				}
				if got.met(rules.PurposeStray) != tc.stray {
					t.Errorf("local %v: counted as stray: %v, want %v", local, !tc.stray, tc.stray)
				}
				if got.met(rules.PurposeTag) {
					t.Errorf("local %v: tagged, though it is no outer packet of ours", local)
				}
			}
		})
	}
}

func TestTagging(t *testing.T) {
	odd := sunSite()
	odd.Tune = func(s *xfrm.State, _ bool, _ int) {
		s.Encap = xfrm.Encap{Type: 2, SPort: 40000, DPort: 14500}
		if s.Dst != addr(sunWAN) {
			s.Encap.SPort, s.Encap.DPort = 14500, 40000
		}
	}
	w := compileWorld(t, snapshotOf(sunHost(), odd), firewall.Config{})
	local := trace.Packet{Src: addr(moonWAN), Dst: addr(sunWAN), In: "eth0", DstLocal: true}
	outer := func(proto xfrm.Proto, sport, dport uint16) trace.Packet {
		p := local
		p.Proto, p.SPort, p.DPort = proto, sport, dport
		return p
	}
	for _, tc := range []struct {
		name      string
		packet    trace.Packet
		tag, open bool
	}{
		{"ESP", outer(xfrm.ESP, 0, 0), true, true},
		{"AH", outer(xfrm.AH, 0, 0), true, true},
		{"UDP 4500", outer(xfrm.UDP, 1, 4500), true, true},
		{"the state's own local port", outer(xfrm.UDP, 40000, 14500), true, true},
		{"the peer's port opens nothing", outer(xfrm.UDP, 14500, 40000), false, false},
		{"IKE", outer(xfrm.UDP, 500, 500), false, true},
		{"anything else", outer(xfrm.TCP, 500, 500), false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := w.arrive(tc.packet, nil)
			if hasTag := got.mark&tag != 0; hasTag != tc.tag {
				t.Errorf("tagged %v, want %v", hasTag, tc.tag)
			}
			if open := got.final == rules.Accept; open != tc.open {
				t.Errorf("let in %v, want %v", open, tc.open)
			}
		})
	}
}

func TestPolicyOnlyAndItsReasons(t *testing.T) {
	tuned := func(f func(*xfrm.State)) sample.Site {
		s := sunSite()
		s.Tune = func(st *xfrm.State, _ bool, _ int) { f(st) }
		return s
	}
	offloading := sunHost()
	offloading.ESP4Offload = true
	greedyMark := xfrm.Mark{Value: 0x2a, Mask: 0xffffffff}
	for _, tc := range []struct {
		name string
		host xfrm.Host
		site sample.Site
		want firewall.Evidence
	}{
		{"plain", sunHost(), sunSite(), firewall.TagAndPolicy},
		{"esp4_offload", offloading, sunSite(), firewall.PolicyOnly},
		{"hardware offload", sunHost(), tuned(func(s *xfrm.State) { s.Offload.Ifindex = 2 }), firewall.PolicyOnly},
		{"greedy lookup mark", sunHost(), tuned(func(s *xfrm.State) { s.Mark = greedyMark }), firewall.PolicyOnly},
		{"harmless lookup mark", sunHost(), tuned(func(s *xfrm.State) { s.Mark = xfrm.Mark{Value: 0x2a, Mask: 0xff} }), firewall.TagAndPolicy},
		{"output mark over the tag", sunHost(), tuned(func(s *xfrm.State) { s.SetMark = xfrm.Mark{Value: 1, Mask: 0xf0000001} }), firewall.PolicyOnly},
		{"output mark that is the tag, offloading", offloading, tuned(func(s *xfrm.State) { s.SetMark = xfrm.Mark{Value: tag, Mask: tag} }), firewall.TagAndPolicy},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := compileWorld(t, snapshotOf(tc.host, tc.site), firewall.Config{})
			report := w.result.Tunnels[0]
			if report.Evidence != tc.want || tc.want == firewall.PolicyOnly && report.Reason == "" {
				t.Errorf("evidence %+v, want %s with a reason", report.Witness, tc.want)
			}
			want := rules.PurposeUnconfirmed
			if tc.want == firewall.PolicyOnly {
				want = rules.PurposePolicyOnly
			}
			got := w.arrive(from(1, "10.1.0.10", "10.2.0.10"), nil)
			if got.final != rules.Accept || !got.met(want) {
				t.Errorf("untagged packet: verdict %s, want accept by %q", got.final, want)
			}
		})
	}
}

// A state with a lookup mark that takes our bit must never see a tagged packet.
func TestGreedyStateStaysUntagged(t *testing.T) {
	s := sunSite()
	s.Tune = func(st *xfrm.State, _ bool, _ int) { st.Mark = xfrm.Mark{Value: 0x2a, Mask: 0xffffffff} }
	w := compileWorld(t, snapshotOf(sunHost(), s), firewall.Config{})
	esp := trace.Packet{Src: addr(moonWAN), Dst: addr(sunWAN), In: "eth0", DstLocal: true, Proto: xfrm.ESP}
	if got := w.arrive(esp, nil); got.mark != 0 || got.final != rules.Accept {
		t.Errorf("mark %#x, verdict %s: want no mark, and let in", got.mark, got.final)
	}
	esp.Src = addr("192.0.2.99")
	if got := w.arrive(esp, nil); got.mark != tag {
		t.Errorf("mark %#x: another peer's ESP is to be tagged", got.mark)
	}
}

// Packets get neither of our bits where the kernel would not find their policy with them,
// and are accepted on the policy match alone.
func TestGreedyPolicyAcceptedOnPolicyAlone(t *testing.T) {
	s := sunSite()
	s.Mark = xfrm.Mark{Value: 0, Mask: 0xffffffff}
	w := compileWorld(t, snapshotOf(sunHost(), s), firewall.Config{})
	got := w.arrive(from(1, "10.1.0.10", "10.2.0.10"), nil)
	if got.mark != 0 || got.final != rules.Accept {
		t.Errorf("mark %#x, verdict %s: want none, accepted", got.mark, got.final)
	}
	if got := w.arrive(from(1, "10.9.0.10", "10.2.0.10"), nil); got.final == rules.Accept {
		t.Error("accepted from outside its selectors")
	}
}

// about makes an error one about a flow to somewhere else.
func about(p trace.Packet, far string) trace.Packet {
	p.Ct.OrigDst, p.Ct.ReplSrc = addr(far), addr(far)
	return p
}

func TestRelatedErrors(t *testing.T) {
	other := sample.Site{Reqid: 2, Local: sunWAN, Remote: "198.51.100.1", Pairs: [][2]string{{sunLAN, "10.5.0.0/24"}}}
	wide := sample.Site{Reqid: 3, Local: sunWAN, Remote: "198.51.100.2", Pairs: [][2]string{{sunLAN, "10.0.0.0/8"}}}
	asleep := sample.Site{Reqid: 4, Local: sunWAN, Remote: "198.51.100.3", Pairs: [][2]string{{sunLAN, "10.6.0.0/24"}}, Down: true}
	w := compileWorld(t, snapshotOf(sunHost(), sunSite(), other, wide, asleep), firewall.Config{})
	icmp := func(reqid uint32, src, dst string, state rules.CtState) trace.Packet {
		p := tagged(from(reqid, src, dst))
		p.Proto, p.ICMPType, p.ICMPCode = xfrm.ICMP, 3, 4
		far := addr(map[uint32]string{1: "10.1.0.10", 2: "10.5.0.10", 3: "10.77.0.10"}[reqid])
		p.Ct = trace.Conntrack{State: state, OrigSrc: addr("10.2.0.10"), OrigDst: far, ReplSrc: far, ReplDst: addr("10.2.0.10")}
		return p
	}
	for _, tc := range []struct {
		name   string
		packet trace.Packet
		want   rules.Verb
	}{
		{"from a router that nobody owns", icmp(1, "172.16.9.9", "10.2.0.10", rules.CtRelated), rules.Accept},
		{"about another tunnel's flow", about(icmp(1, "172.16.9.9", "10.2.0.10", rules.CtRelated), "10.5.0.10"), rules.Drop},
		{"not related", icmp(1, "172.16.9.9", "10.2.0.10", 0), rules.Drop},
		{"not to the local selector", icmp(1, "172.16.9.9", "10.3.0.10", rules.CtRelated), rules.Drop},
		{"from an address of another live tunnel", icmp(1, "10.5.0.1", "10.2.0.10", rules.CtRelated), rules.Drop},
		{"from that tunnel itself", icmp(2, "10.5.0.1", "10.2.0.10", rules.CtRelated), rules.Accept},
		{"from the wide tunnel, in its own range", icmp(3, "10.77.0.1", "10.2.0.10", rules.CtRelated), rules.Accept},
		{"from an address that only the wide tunnel owns", icmp(1, "10.77.0.1", "10.2.0.10", rules.CtRelated), rules.Drop},
		{"from an address of the wide tunnel, its owner being down", icmp(3, "10.6.0.1", "10.2.0.10", rules.CtRelated), rules.Accept},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := w.arrive(tc.packet, nil); got.final != tc.want {
				t.Errorf("verdict %s, want %s; met %v", got.final, tc.want, got.steps)
			}
		})
	}
}

func TestIPComp(t *testing.T) {
	s := sunSite()
	s.Comp = true
	w := compileWorld(t, snapshotOf(sunHost(), s), firewall.Config{})
	small := tagged(from(1, moonWAN, sunWAN))
	small.Proto, small.DstLocal = xfrm.IPIP, true
	if got := w.arrive(small, nil); !got.met(rules.PurposeIPComp) || got.final != rules.Accept {
		t.Errorf("the carrier of a small packet: verdict %s, met %v", got.final, got.steps)
	}
	small.Src = addr("192.0.2.66")
	if got := w.arrive(small, nil); got.final == rules.Accept {
		t.Error("accepted protocol 4 from a stranger")
	}
	if got := w.arrive(tagged(from(1, "10.1.0.10", "10.2.0.10")), nil); got.final != rules.Accept {
		t.Errorf("the payload: verdict %s", got.final)
	}
}

func TestOverlayGRE(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links,
		xfrm.Link{Index: 4, Name: "gre1", Kind: "gre", Local: addr(sunWAN), Remote: addr(moonWAN), Master: 5},
		xfrm.Link{Index: 5, Name: "br0", Kind: "bridge"})
	carried := sample.Site{Reqid: 1, Local: sunWAN, Remote: moonWAN, Transport: true, Proto: xfrm.GRE,
		Pairs: [][2]string{{sunWAN + "/32", moonWAN + "/32"}}}
	greedyPeer := sample.Site{Reqid: 2, Local: sunWAN, Remote: "198.51.100.1", Pairs: [][2]string{{"0.0.0.0/0", "0.0.0.0/0"}}}
	w := compileWorld(t, snapshotOf(host, carried, greedyPeer), firewall.Config{})

	carrier := tagged(from(1, moonWAN, sunWAN))
	carrier.Proto, carrier.DstLocal, carrier.SecPath[0].Mode = xfrm.GRE, true, xfrm.TransportMode
	got := w.arrive(carrier, nil)
	if got.mark&verified == 0 || got.final != rules.Accept {
		t.Fatalf("carrier: mark %#x, verdict %s", got.mark, got.final)
	}
	for _, device := range []string{"gre1", "br0"} {
		inner := trace.Packet{Src: addr("10.50.0.1"), Dst: addr("10.2.0.10"), In: device, Out: "eth1", Proto: xfrm.TCP, Mark: got.mark}
		if in := w.arrive(inner, nil); in.final != rules.Accept || !in.met(rules.PurposeOverlay) {
			t.Errorf("payload on %s: verdict %s", device, in.final)
		}
		inner.Mark = tag
		if in := w.arrive(inner, nil); in.final == rules.Accept {
			t.Errorf("payload on %s with the tag alone was accepted", device)
		}
	}
	crossing := carrier
	crossing.SecPath = []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 2}}
	if got := w.arrive(crossing, nil); got.mark&verified != 0 {
		t.Error("a carrier that came through another peer's tunnel was verified")
	}
	inClear := carrier
	inClear.SecPath, inClear.Mark = nil, 0
	if got := w.arrive(inClear, nil); got.mark&verified != 0 || got.final == rules.Accept {
		t.Error("GRE in clear was let in")
	}
}

// VXLAN over GRE over ESP, in a VRF: the mark goes through both devices. Carrier packets
// may come out of that GRE device and of nothing else.
func TestOverlayStacked(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links,
		xfrm.Link{Index: 4, Name: "gre1", Kind: "gre", Local: addr(sunWAN), Remote: addr(moonWAN)},
		xfrm.Link{Index: 5, Name: "gre2", Kind: "gre", Local: addr(sunWAN), Remote: addr("198.51.100.1")},
		xfrm.Link{Index: 6, Name: "vx0", Kind: "vxlan", Local: addr("172.30.0.2"), Remote: addr("172.30.0.1"), Port: 4789, Master: 7},
		xfrm.Link{Index: 7, Name: "red", Kind: "vrf"},
		xfrm.Link{Index: 8, Name: "vx1", Kind: "vxlan", Local: addr("172.31.0.2"), Remote: addr("172.31.0.1"), Port: 4789})
	host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("172.30.0.0/24"), Link: 4, Connected: true},
		xfrm.Route{Dst: netip.MustParsePrefix("172.31.0.0/24"), Link: 3, Connected: true})
	carried := sample.Site{Reqid: 1, Local: sunWAN, Remote: moonWAN, Transport: true, Proto: xfrm.GRE, Pairs: [][2]string{{sunWAN + "/32", moonWAN + "/32"}}}
	other := sample.Site{Reqid: 2, Local: sunWAN, Remote: "198.51.100.1", Transport: true, Proto: xfrm.GRE, Pairs: [][2]string{{sunWAN + "/32", "198.51.100.1/32"}}}
	wide := sample.Site{Reqid: 3, Local: sunWAN, Remote: "203.0.113.3", Pairs: [][2]string{{"0.0.0.0/0", "172.16.0.0/12"}}}
	routed := peer(4, "203.0.113.4", [2]string{"0.0.0.0/0", "0.0.0.0/0"})
	routed.IfID = 8
	w := compileWorld(t, snapshotOf(host, carried, other, wide, routed), firewall.Config{})
	carrier := trace.Packet{Src: addr("172.30.0.1"), Dst: addr("172.30.0.2"), In: "gre1", DstLocal: true, Proto: xfrm.UDP, SPort: 40000, DPort: 4789, Mark: verified}
	inner := trace.Packet{Src: addr("10.50.0.1"), Dst: addr("10.2.0.10"), In: "red", Out: "eth1", Proto: xfrm.TCP, Mark: verified}
	direct := func(reqid uint32) trace.Packet { // the carrier out of a tunnel, not of a device
		p := tagged(from(reqid, "172.30.0.1", "172.30.0.2"))
		p.Proto, p.DPort, p.DstLocal = xfrm.UDP, 4789, true
		return p
	}
	if got := w.arrive(inner, nil); got.final != rules.Accept {
		t.Errorf("the wide tunnel carries vx0: verdict %s", got.final)
	}
	if got := w.arrive(direct(3), nil); got.final != rules.Accept {
		t.Errorf("the carrier out of the wide tunnel: verdict %s", got.final)
	}
	if got := w.arrive(direct(4), nil); got.final != rules.Drop || !got.met(rules.PurposeCrossed) {
		t.Errorf("the wide tunnel's carrier out of another tunnel: verdict %s", got.final)
	}
	if got := w.arrive(carrier, nil); got.final != rules.Drop || !got.met(rules.PurposeCrossed) {
		t.Errorf("the wide tunnel's carrier out of a device: verdict %s", got.final)
	}
	wide.IfID, wide.Pairs = 7, [][2]string{{"0.0.0.0/0", "0.0.0.0/0"}} // the kernel would not send its packets into the device
	w = compileWorld(t, snapshotOf(host, carried, other, wide), firewall.Config{})
	if got := w.arrive(carrier, nil); got.final != rules.Accept || got.mark&verified == 0 {
		t.Errorf("out of gre1: verdict %s, mark %#x", got.final, got.mark)
	}
	for _, device := range []string{"vx0", "red"} {
		inner.In = device
		if got := w.arrive(inner, nil); got.final != rules.Accept || !got.met(rules.PurposeOverlay) {
			t.Errorf("payload on %s: verdict %s", device, got.final)
		}
	}
	inner.In = "vx1"
	if got := w.arrive(inner, nil); got.final == rules.Accept || got.mark&verified != 0 {
		t.Errorf("payload on a device that nothing protects: verdict %s", got.final)
	}
	inner.In, inner.Mark = "vx0", tag
	if got := w.arrive(inner, nil); got.final == rules.Accept {
		t.Error("payload without its carrier's mark was accepted")
	}
	stray := carrier
	stray.In = "gre2"
	if got := w.arrive(stray, nil); got.final != rules.Drop || !got.met(rules.PurposeCrossed) {
		t.Errorf("the carrier out of another peer's device: verdict %s", got.final)
	}
	gre := trace.Packet{Src: addr(moonWAN), Dst: addr(sunWAN), In: "gre2", DstLocal: true, Proto: xfrm.GRE, Mark: verified}
	if got := w.arrive(gre, nil); got.final != rules.Drop || !got.met(rules.PurposeCrossed) {
		t.Errorf("one device's carrier out of another: verdict %s", got.final)
	}
	if got := w.arrive(direct(3), nil); got.final != rules.Drop || !got.met(rules.PurposeCrossed) {
		t.Errorf("the carrier out of another tunnel: verdict %s", got.final)
	}
	stray = carrier
	stray.In, stray.Mark = "eth0", 0
	if got := w.arrive(stray, nil); got.final == rules.Accept || got.mark&verified != 0 {
		t.Errorf("the carrier in clear: verdict %s", got.final)
	}
}

// VXLAN over an xfrm interface: carrier packets show the policy of that tunnel.
func TestOverlayOverInterface(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "ipsec0", Kind: "xfrm", IfID: 7},
		xfrm.Link{Index: 5, Name: "vx0", Kind: "vxlan", Local: addr("172.30.0.2"), Remote: addr("172.30.0.1"), Port: 4789})
	host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("172.30.0.0/24"), Link: 4, Connected: true})
	s, other := peer(1, moonWAN, [2]string{"0.0.0.0/0", "0.0.0.0/0"}), peer(2, "203.0.113.2", [2]string{"0.0.0.0/0", "0.0.0.0/0"})
	s.IfID, other.IfID = 7, 8
	w := compileWorld(t, snapshotOf(host, s, other), firewall.Config{})
	carrier := func(reqid uint32) trace.Packet {
		p := tagged(from(reqid, "172.30.0.1", "172.30.0.2"))
		p.In, p.Proto, p.DPort, p.DstLocal = "ipsec0", xfrm.UDP, 4789, true
		return p
	}
	got := w.arrive(carrier(1), nil)
	if got.final != rules.Accept || got.mark&verified == 0 {
		t.Errorf("the carrier: verdict %s, mark %#x", got.final, got.mark)
	}
	inner := trace.Packet{Src: addr("10.50.0.1"), Dst: addr("10.2.0.10"), In: "vx0", Out: "eth1", Proto: xfrm.TCP, Mark: got.mark}
	if got := w.arrive(inner, nil); got.final != rules.Accept || !got.met(rules.PurposeOverlay) {
		t.Errorf("payload: verdict %s", got.final)
	}
	if got := w.arrive(carrier(2), nil); got.final != rules.Drop || !got.met(rules.PurposeCrossed) {
		t.Errorf("the carrier out of another tunnel: verdict %s", got.final)
	}
}

func TestOverlayVTI(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "vti1", Kind: "vti", IKey: 42, OKey: 42, Local: addr(sunWAN), Remote: addr(moonWAN)})
	host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("10.50.0.0/24"), Link: 4})
	s := sunSite()
	s.Pairs, s.Mark = [][2]string{{"0.0.0.0/0", "0.0.0.0/0"}}, xfrm.Mark{Value: 42, Mask: 0xffffffff}
	s.Tune = func(st *xfrm.State, _ bool, _ int) { st.Mark = xfrm.Mark{Value: 42, Mask: 0xffffffff} }
	w := compileWorld(t, snapshotOf(host, s), firewall.Config{})
	if e := w.result.Tunnels[0].Evidence; e != firewall.OverlayOnly {
		t.Errorf("evidence %s", e)
	}
	esp := trace.Packet{Src: addr(moonWAN), Dst: addr(sunWAN), In: "eth0", DstLocal: true, Proto: xfrm.ESP}
	if got := w.arrive(esp, nil); got.mark != tag {
		t.Fatalf("outer packet: mark %#x", got.mark)
	}
	inner := trace.Packet{Src: addr("10.50.0.1"), Dst: addr("10.2.0.10"), In: "vti1", Proto: xfrm.TCP, Mark: tag}
	if got := w.arrive(inner, nil); got.final != rules.Accept || !got.met(rules.PurposeOverlay) {
		t.Errorf("payload: verdict %s", got.final)
	}
	inner.Mark = 0
	if got := w.arrive(inner, nil); got.final == rules.Accept {
		t.Error("payload without the tag was accepted")
	}
}

func TestXfrmInterface(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "ipsec0", Kind: "xfrm", IfID: 7})
	host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix(moonLAN), Link: 4})
	s := sunSite()
	s.IfID, s.Pairs = 7, [][2]string{{"0.0.0.0/0", "0.0.0.0/0"}}
	w := compileWorld(t, snapshotOf(host, s), firewall.Config{})
	in := tagged(from(1, "10.1.0.10", "10.2.0.10"))
	in.In = "ipsec0"
	if got := w.arrive(in, nil); got.final != rules.Accept || !got.met(rules.PurposeVerified) {
		t.Errorf("in: verdict %s", got.final)
	}
	toTunnel := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "ipsec0", Proto: xfrm.TCP}
	if got := w.arrive(toTunnel, nil); got.final != rules.Accept {
		t.Errorf("from the LAN into the device: verdict %s", got.final)
	}
	stranger := toTunnel
	stranger.Src, stranger.In = addr("192.0.2.66"), "eth0"
	if got := w.arrive(stranger, nil); got.final != rules.Return || !got.met(rules.PurposeStranger) {
		t.Errorf("a stranger into the device: verdict %s", got.final)
	}
	stranger.Ct.State = rules.CtEstablished
	if got := w.arrive(stranger, nil); got.final != rules.Accept {
		t.Errorf("a reply from outside into the device: verdict %s", got.final)
	}
	own := trace.Packet{Src: addr("10.2.0.1"), Dst: addr("10.1.0.10"), Out: "ipsec0", Proto: xfrm.TCP, SrcLocal: true}
	if got := w.send(own); got.final != rules.Accept || !got.met(rules.PurposeNAT) {
		t.Errorf("own packet into the device: verdict %s, met %v", got.final, got.steps)
	}
}

func TestOutboundAndNAT(t *testing.T) {
	w := compileWorld(t, snapshotOf(sunHost(), sunSite()), firewall.Config{})
	ahead := []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}}
	out := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", Proto: xfrm.TCP, OutBundle: ahead}
	if got := w.arrive(out, nil); got.final != rules.Accept {
		t.Errorf("LAN to tunnel: verdict %s", got.final)
	}
	own := trace.Packet{Src: addr("10.2.0.1"), Dst: addr("10.1.0.10"), Out: "eth0", SrcLocal: true, OutBundle: ahead}
	if got := w.send(own); got.final != rules.Accept || !got.met(rules.PurposeNAT) {
		t.Errorf("own packet: verdict %s", got.final)
	}
	own.OutBundle = nil
	if got := w.send(own); got.final != rules.Drop || !got.met(rules.PurposeLeak) {
		t.Errorf("own packet to the far side in clear: verdict %s", got.final)
	}
	own.Dst = addr("198.51.100.7")
	if got := w.send(own); got.final != rules.Return || got.met(rules.PurposeNAT) {
		t.Errorf("own packet that is not ours to judge: verdict %s", got.final)
	}
	own.Dst = addr("10.1.0.10")
	config := firewall.Config{Tunnels: []firewall.TunnelConfig{{Match: firewall.Match{Reqid: 1}, KeepNAT: true}}}
	w = compileWorld(t, snapshotOf(sunHost(), sunSite()), config)
	own.OutBundle = ahead
	if got := w.send(own); got.met(rules.PurposeNAT) || !got.met(rules.PurposeNATKeep) {
		t.Error("nat: keep was not kept")
	}
}

// A full-tunnel client must not encrypt packets that strangers send it.
func TestStrangerIntoWideTunnel(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{"0.0.0.0/0", moonLAN}}
	w := compileWorld(t, snapshotOf(sunHost(), s), firewall.Config{})
	p := trace.Packet{Src: addr("192.0.2.66"), Dst: addr("10.1.0.10"), In: "eth0", Out: "eth0", Proto: xfrm.TCP,
		OutBundle: []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}}}
	if got := w.arrive(p, nil); got.final != rules.Return || !got.met(rules.PurposeStranger) {
		t.Errorf("verdict %s", got.final)
	}
	p.In, p.Src = "eth1", addr("10.2.0.10")
	if got := w.arrive(p, nil); got.final != rules.Accept {
		t.Errorf("from the LAN: verdict %s", got.final)
	}
}

func TestSharedReqidIsToldByAddress(t *testing.T) {
	one := sample.Site{Reqid: 5, Local: sunWAN, Remote: "198.51.100.1", Pairs: [][2]string{{sunLAN, "10.10.0.1/32"}}}
	two := sample.Site{Reqid: 5, Local: sunWAN, Remote: "198.51.100.2", Pairs: [][2]string{{sunLAN, "10.10.0.2/32"}}}
	w := compileWorld(t, snapshotOf(sunHost(), one, two), firewall.Config{})
	p := tagged(from(5, "10.10.0.1", "10.2.0.10"))
	p.SecPath[0].Src, p.SecPath[0].Dst = addr("198.51.100.1"), addr(sunWAN)
	if got := w.arrive(p, nil); got.final != rules.Accept {
		t.Errorf("its own address: verdict %s", got.final)
	}
	p.SecPath[0].Src = addr("198.51.100.2")
	if got := w.arrive(p, nil); got.final == rules.Accept {
		t.Error("a peer got in with the address of another that has the same reqid")
	}
}

func TestRemoteCap(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{sunLAN, "10.0.0.0/8"}}
	config := firewall.Config{Tunnels: []firewall.TunnelConfig{{Match: firewall.Match{Peer: netip.MustParsePrefix(moonWAN + "/32")}, Name: "office", Remote: []netip.Prefix{netip.MustParsePrefix(moonLAN)}}}}
	w := compileWorld(t, snapshotOf(sunHost(), s), config)
	if got := w.result.Tunnels[0].Name; got != "office" {
		t.Errorf("name %q", got)
	}
	if got := w.arrive(tagged(from(1, "10.1.0.10", "10.2.0.10")), nil); got.final != rules.Accept {
		t.Errorf("within the cap: verdict %s", got.final)
	}
	if got := w.arrive(tagged(from(1, "10.9.0.10", "10.2.0.10")), nil); got.final == rules.Accept {
		t.Error("accepted beyond the cap")
	}
}

func TestWANAndMarkOnly(t *testing.T) {
	w := compileWorld(t, snapshotOf(sunHost(), sunSite()), firewall.Config{WAN: []string{"eth0"}, MarkOnly: true})
	esp := trace.Packet{Src: addr(moonWAN), Dst: addr(sunWAN), In: "eth1", DstLocal: true, Proto: xfrm.ESP}
	if got := w.arrive(esp, nil); got.final == rules.Accept {
		t.Error("ESP let in by an interface that is not configured")
	}
	esp.In = "eth0"
	if got := w.arrive(esp, nil); got.final != rules.Accept {
		t.Error("ESP not let in by the configured interface")
	}
	got := w.arrive(tagged(from(1, "10.1.0.10", "10.2.0.10")), nil)
	if got.final != rules.Return || got.mark&verified == 0 {
		t.Errorf("verdict %s, mark %#x: want it marked and left to others", got.final, got.mark)
	}
}

func TestCompileIsDeterministic(t *testing.T) {
	s := snapshotOf(sunHost(), sunSite(), sample.Site{Reqid: 2, Local: sunWAN, Remote: "198.51.100.1", Pairs: [][2]string{{sunLAN, "10.5.0.0/24"}}})
	a := compileWorld(t, s, firewall.Config{}).result
	for range 5 {
		if b := compileWorld(t, s, firewall.Config{}).result; !reflect.DeepEqual(a, b) {
			t.Fatal("two compiles of one snapshot differ")
		}
	}
	for i, j := 0, len(s.Policies)-1; i < j; i, j = i+1, j-1 {
		s.Policies[i], s.Policies[j] = s.Policies[j], s.Policies[i]
	}
	if b := compileWorld(t, s, firewall.Config{}).result; !reflect.DeepEqual(a, b) {
		t.Fatal("the order of the dump shows in the rules")
	}
}

// Another program's rules that wipe our bits, known or not, don't cut tunnels off, and let
// nothing else in.
func TestMarksWrittenByOthers(t *testing.T) {
	wipe := func(p *trace.Packet) { p.Mark = 0 }
	s := snapshotOf(sunHost(), sunSite())
	w := compileWorld(t, s, firewall.Config{})
	here := tagged(from(1, "10.1.0.10", "10.2.0.1"))
	here.DstLocal = true
	for _, p := range []trace.Packet{tagged(from(1, "10.1.0.10", "10.2.0.10")), here} {
		if got := w.arrive(p, wipe); got.final != rules.Accept {
			t.Errorf("to %s: verdict %s", p.Dst, got.final)
		}
	}
	for _, p := range []trace.Packet{clear4("10.1.0.10", "10.2.0.10"), clear4("198.51.100.7", "10.2.0.10"), tagged(from(1, "10.9.0.1", "10.2.0.10")), tagged(from(9, "10.77.0.1", "10.2.0.10"))} {
		if got := w.arrive(p, wipe); got.final == rules.Accept {
			t.Errorf("from %s: accepted", p.Src)
		}
	}
}
