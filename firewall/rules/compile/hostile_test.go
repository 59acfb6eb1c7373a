package compile

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// A peer chooses selectors within those that it may negotiate. By any choice the rules
// stay valid, few, and the others' as they were.

func peer(n int, remote string, pairs ...[2]string) sample.Site {
	return sample.Site{Reqid: uint32(n), Local: sunWAN, Remote: remote, Pairs: pairs}
}

func TestManyTunnelsWithSeveralLocals(t *testing.T) {
	var sites []sample.Site
	for i := range 60 {
		local := []string{"10.2.0.0/24", "10.3.0.0/24", fmt.Sprintf("10.4.%d.0/24", i)}[i%3]
		sites = append(sites, peer(i+1, fmt.Sprintf("203.0.113.%d", i+1), [2]string{local, fmt.Sprintf("10.100.%d.0/24", i)},
			[2]string{fmt.Sprintf("fd00:2:%x::/64", i), fmt.Sprintf("fd00:100:%x::/64", i)}))
	}
	w := compileWorld(t, snapshotOf(sunHost(), sites...), firewall.Config{})
	for i := range 60 {
		p := tagged(from(uint32(i+1), fmt.Sprintf("fd00:100:%x::9", i), fmt.Sprintf("fd00:2:%x::9", i)))
		if got := w.arrive(p, nil); got.final != rules.Accept {
			t.Errorf("tunnel %d: verdict %s", i, got.final)
		}
	}
}

func TestSelectorsThatBranchAtEveryBit(t *testing.T) {
	var pairs [][2]string
	for bit := range 32 {
		pairs = append(pairs, [2]string{sunLAN, netip.AddrFrom4([4]byte{
			byte(uint32(1) << (31 - bit) >> 24), byte(uint32(1) << (31 - bit) >> 16), byte(uint32(1) << (31 - bit) >> 8), byte(uint32(1) << (31 - bit)),
		}).String() + "/32"})
	}
	for i := range 17 {
		pairs = append(pairs, [2]string{sunLAN, fmt.Sprintf("0.0.0.%d/32", 100+i)})
	}
	compileWorld(t, snapshotOf(sunHost(), peer(1, moonWAN, pairs...)), firewall.Config{})
}

func TestManyLocalsOfOneRemote(t *testing.T) {
	var pairs [][2]string
	for i := range 255 {
		pairs = append(pairs, [2]string{fmt.Sprintf("10.2.0.%d/32", i), moonLAN})
	}
	w := compileWorld(t, snapshotOf(sunHost(), peer(1, moonWAN, pairs...)), firewall.Config{})
	list := 0
	for _, c := range w.result.Rulesets[0].Chains {
		list += c.Rules.Len()
	}
	if list > 255*30 {
		t.Errorf("255 pairs became %d rules", list)
	}
	p := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", OutBundle: []xfrm.Transform{{Proto: xfrm.ESP, Reqid: 1}}}
	p.Ct = trace.Conntrack{State: rules.CtSNAT, Dir: rules.CtOriginal, ReplDst: addr("10.2.0.77")}
	if got := w.forward(p); got.met(rules.PurposeLeak) {
		t.Error("rewritten into another of its selectors, and stopped")
	}
	p.Ct.ReplDst = addr(sunWAN)
	if got := w.forward(p); !got.met(rules.PurposeLeak) {
		t.Error("rewritten to the outer address, and not stopped")
	}
}

func TestManyWideTunnelsAndManySites(t *testing.T) {
	var sites []sample.Site
	for i := range 40 {
		s := peer(i+1, fmt.Sprintf("198.51.100.%d", i+1), [2]string{"0.0.0.0/0", "0.0.0.0/0"})
		s.IfID = uint32(i + 1)
		sites = append(sites, s)
	}
	for i := range 1000 {
		sites = append(sites, peer(100+i, fmt.Sprintf("203.0.%d.%d", i/250, i%250+1), [2]string{sunLAN, fmt.Sprintf("10.%d.%d.0/24", 100+i/250, i%250)}))
	}
	w := compileWorld(t, snapshotOf(sunHost(), sites...), firewall.Config{})
	list := 0
	for _, c := range w.result.Rulesets[0].Chains {
		list += c.Rules.Len()
	}
	if list > 40*len(sites) {
		t.Errorf("%d tunnels became %d rules", len(sites), list)
	}
	for _, p := range []trace.Packet{tagged(from(7, "8.8.8.8", "10.2.0.10")), tagged(from(600, "10.102.0.9", "10.2.0.10"))} {
		if got := w.arrive(p, nil); got.final != rules.Accept {
			t.Errorf("from %s: verdict %s", p.Src, got.final)
		}
	}
}

// Odd selectors of one peer neither stop the compiler nor touch another tunnel.
func TestOddSelectorsHarmNobody(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	protos := []xfrm.Proto{0, 1, 4, 6, 17, 41, 47, 50, 58, 108, 132, 136, 200, 255}
	prefixes := func(v6 bool) netip.Prefix {
		if v6 {
			if r.IntN(8) == 0 {
				return netip.MustParsePrefix("::ffff:10.1.0.0/112")
			}
			return nearPrefix(r, xfrm.IPv6)
		}
		return nearPrefix(r, xfrm.IPv4)
	}
	port := func() xfrm.PortMatch {
		return xfrm.PortMatch{Port: uint16(r.Uint32()), Mask: []uint16{0, 0xffff, 0xfff0, 0xff, 0x0ff0, 1}[r.IntN(6)]}
	}
	for range 300 {
		s := snapshotOf(sunHost(), sunSite())
		for n := range 8 {
			v6 := r.IntN(2) == 0
			sel := xfrm.Selector{Family: xfrm.IPv4, Src: prefixes(v6), Dst: prefixes(v6), Proto: protos[r.IntN(len(protos))], SPort: port(), DPort: port()}
			if v6 {
				sel.Family = xfrm.IPv6
			}
			s.Policies = append(s.Policies, xfrm.Policy{
				Selector: sel, Dir: xfrm.Dir(r.IntN(3)), Priority: 2000, IfID: uint32(r.IntN(2) * 9), Action: xfrm.Action(r.IntN(8) / 7),
				Templates: []xfrm.Template{{Family: xfrm.IPv4, Src: addr("198.51.100.66"), Dst: addr(sunWAN), Proto: xfrm.ESP, Mode: xfrm.Mode(r.IntN(2)), Reqid: uint32(90 + n/4)}},
			})
		}
		w := compileWorld(t, s, firewall.Config{})
		if got := w.arrive(tagged(from(1, "10.1.0.10", "10.2.0.10")), nil); got.final != rules.Accept {
			t.Fatalf("another tunnel's packet: verdict %s; met %v", got.final, got.steps)
		}
		if got := w.arrive(clear4("10.1.0.10", "10.2.0.10"), nil); got.final != rules.Drop {
			t.Fatalf("a spoof of another tunnel: verdict %s", got.final)
		}
	}
}

// The acts of one peer take no guard from another.
func TestMemoryOutlivesOtherPeers(t *testing.T) {
	host := sunHost()
	memory := remember(nil, snapshotOf(host, sunSite()), 1000)
	inside := peer(2, "10.1.0.66", [2]string{sunLAN, "10.50.0.7/32"})
	memory = remember(memory, snapshotOf(host, sunSite(), inside), 2000)
	if len(memory) != 1 || memory[0].Expires != 2000+30*day {
		t.Errorf("a peer's outer address lets another tunnel's guard age while that stands: %+v", memory)
	}
	memory = remember(memory, snapshotOf(host), 3000)
	w := compileInput(t, snapshotOf(host), firewall.Input{Guards: memory})
	if got := w.arrive(clear4("10.1.0.10", "10.2.0.10"), nil); got.final != rules.Drop {
		t.Error("a peer's outer address uncovered another tunnel's guard")
	}
}

func TestMemoryAndPolicyOrder(t *testing.T) {
	s := snapshotOf(sunHost(), sunSite())
	block := bypass("10.1.0.128/25", sunLAN, xfrm.Fwd, 10)
	block.Action = xfrm.Block
	late := bypass("10.0.0.0/8", sunLAN, xfrm.Fwd, 9000)
	s.Policies = append(s.Policies, block, late)
	memory := remember(nil, s, 1000)
	left := snapshotOf(sunHost())
	left.Policies = append(left.Policies, late)
	w := compileInput(t, left, firewall.Input{Guards: memory})
	for _, src := range []string{"10.1.0.200", "10.1.0.10"} {
		if got := w.arrive(clear4(src, "10.2.0.10"), nil); got.final != rules.Drop {
			t.Errorf("from %s: what was blocked or guarded passes in clear: verdict %s", src, got.final)
		}
	}
	if got := w.arrive(clear4("10.200.0.9", "10.2.0.10"), nil); got.final == rules.Drop {
		t.Error("the bypass that still stands was not honoured")
	}
}

// The peer of a tunnel with an interface can't name more than is routed there.
func TestInterfacePeerNamesTheInternet(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "ipsec0", Kind: "xfrm", IfID: 7})
	host.Routes = append(host.Routes,
		xfrm.Route{Dst: netip.MustParsePrefix("10.0.0.0/8"), Link: 4, Connected: true},
		xfrm.Route{Dst: netip.MustParsePrefix("10.77.3.0/24"), Link: 3, Via: addr("10.2.0.5")})
	s := peer(1, moonWAN, [2]string{"0.0.0.0/0", "0.0.0.0/1"}, [2]string{"0.0.0.0/0", "128.0.0.0/1"})
	s.IfID = 7
	w := compileWorld(t, snapshotOf(host, s), firewall.Config{})
	ssh := trace.Packet{Src: addr("198.51.100.7"), Dst: addr(sunWAN), In: "eth0", DstLocal: true, Proto: xfrm.TCP, DPort: 22}
	if got := w.arrive(ssh, nil); got.final == rules.Drop {
		t.Error("a peer cut the gateway from the internet")
	}
	if got := w.forward(trace.Packet{Src: addr("10.2.0.10"), Dst: addr("8.8.8.8"), In: "eth1", Out: "eth0"}); got.final != rules.Return {
		t.Errorf("a peer cut the LAN from the internet: verdict %s", got.final)
	}
	inner := trace.Packet{Src: addr("10.77.3.9"), Dst: addr("10.2.0.10"), In: "eth1", Proto: xfrm.TCP}
	if got := w.arrive(inner, nil); got.final == rules.Drop {
		t.Error("a network behind an inner router was cut by a wider route into the device")
	}
	if got := w.forward(trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.77.3.9"), In: "eth1", Out: "eth1"}); got.final != rules.Return {
		t.Errorf("the way to a network behind an inner router was cut: verdict %s", got.final)
	}
	if got := w.arrive(clear4("10.1.0.10", "10.2.0.10"), nil); got.final != rules.Drop {
		t.Error("what is routed into the device is not guarded")
	}
}

func TestMarkOnlyLetsNoStrangerIn(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 4, Name: "ipsec0", Kind: "xfrm", IfID: 7})
	s := peer(1, moonWAN, [2]string{"0.0.0.0/0", "0.0.0.0/0"})
	s.IfID = 7
	w := compileWorld(t, snapshotOf(host, s), firewall.Config{MarkOnly: true})
	p := trace.Packet{Src: addr("198.51.100.7"), Dst: addr("10.1.0.10"), In: "eth0", Out: "ipsec0", Proto: xfrm.TCP}
	if got := w.arrive(p, nil); got.final == rules.Accept {
		t.Error("a stranger was let into the tunnel")
	}
}

// A VRF above a VTI carries policy tunnels' packets too.
func TestVRFAboveVTI(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links,
		xfrm.Link{Index: 4, Name: "vti1", Kind: "vti", IKey: 42, OKey: 42, Local: addr(sunWAN), Remote: addr(moonWAN), Master: 5},
		xfrm.Link{Index: 5, Name: "red", Kind: "vrf"})
	s := peer(1, moonWAN, [2]string{"0.0.0.0/0", "0.0.0.0/0"})
	s.Mark = xfrm.Mark{Value: 42, Mask: 0xffffffff}
	w := compileWorld(t, snapshotOf(host, s), firewall.Config{})
	p := tagged(from(99, "10.66.0.1", "10.2.0.10"))
	p.In = "red"
	if got := w.arrive(p, nil); got.final == rules.Accept || got.mark&verified != 0 {
		t.Error("an unknown tunnel's packet was taken for the VTI's")
	}
}

// An entry for a remote network is not for any peer with one selector in it.
func TestMatchByRemoteWantsAllOfIt(t *testing.T) {
	config := firewall.Config{Tunnels: []firewall.TunnelConfig{{Match: firewall.Match{Remote: netip.MustParsePrefix("10.1.0.0/16")}, Name: "office"}}}
	w := compileWorld(t, snapshotOf(sunHost(), peer(1, moonWAN, [2]string{sunLAN, "10.1.0.0/24"}, [2]string{sunLAN, "10.66.0.0/24"})), config)
	if w.result.Tunnels[0].Name != "" {
		t.Error("a peer slipped into another's entry")
	}
}

// nearPrefix favours prefixes that are near each other, nested and equal.
func nearPrefix(r *rand.Rand, family xfrm.Family) netip.Prefix {
	if family == xfrm.IPv6 {
		a := [16]byte{0: 0xfd, 1: byte(r.IntN(2)), 7: byte(r.IntN(256)), 15: byte(r.IntN(4))}
		return netip.PrefixFrom(netip.AddrFrom16(a), []int{0, 8, 16, 60, 64, 64, 64, 128}[r.IntN(8)]).Masked()
	}
	a := [4]byte{10, byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(256))}
	return netip.PrefixFrom(netip.AddrFrom4(a), []int{0, 8, 15, 22, 24, 24, 24, 24, 30, 32, 32}[r.IntN(11)]).Masked()
}
