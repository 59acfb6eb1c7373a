package compile

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/sample"
)

// deviceSite is a tunnel for everything that belongs to an xfrm interface, with a route
// into it.
func deviceSite(host *xfrm.Host, reqid uint32, peer, routed string) sample.Site {
	index := int32(20 + reqid)
	host.Links = append(host.Links, xfrm.Link{Index: index, Name: "ipsec" + string(rune('0'+reqid)), Kind: "xfrm", IfID: reqid})
	host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix(routed), Link: index})
	return sample.Site{Reqid: reqid, Local: sunWAN, Remote: peer, IfID: reqid, Pairs: [][2]string{{"0.0.0.0/0", "0.0.0.0/0"}}}
}

// A peer with a device of its own can't send from the network that is routed into another
// peer's: its claim of everything is narrowed to the routes into its own device.
func TestPeerOfADeviceIsHeldToItsRoutes(t *testing.T) {
	host := sunHost()
	a, b := deviceSite(&host, 1, moonWAN, moonLAN), deviceSite(&host, 2, "192.0.2.3", "10.3.0.0/24")
	w := compileWorld(t, snapshotOf(host, a, b), firewall.Config{})
	for _, tc := range []struct {
		reqid uint32
		src   string
		want  rules.Verb
	}{{1, "10.1.0.9", rules.Accept}, {2, "10.3.0.9", rules.Accept}, {2, "10.1.0.9", rules.Drop}, {1, "10.3.0.9", rules.Drop}, {1, "198.51.100.9", rules.Drop}} {
		p := tagged(from(tc.reqid, tc.src, "10.2.0.9"))
		p.In = "ipsec" + string(rune('0'+tc.reqid))
		if got := w.arrive(p, nil); got.final != tc.want {
			t.Errorf("out of %d from %s: %s, want %s", tc.reqid, tc.src, got.final, tc.want)
		}
	}
	host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: 21, Table: 220})
	w = compileWorld(t, snapshotOf(host, a, b), firewall.Config{})
	p := tagged(from(1, "198.51.100.9", "10.2.0.9"))
	p.In = "ipsec1"
	if got := w.arrive(p, nil); got.final != rules.Accept {
		t.Errorf("everything is routed into the device: %s", got.final)
	}
}

// The kernel finds inbound policies of a VTI by its input key and outbound ones by its
// output key, so neither is a mark of the administrator's own: a host with keys that
// differ is not cut off from all cleartext.
func TestKeysOfAVTIDiffer(t *testing.T) {
	host := sunHost()
	host.Links = append(host.Links, xfrm.Link{Index: 9, Name: "vti1", Kind: "vti", IKey: 7, OKey: 8, Local: addr(sunWAN), Remote: addr(moonWAN)})
	host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix(moonLAN), Link: 9})
	s := sunSite()
	s.Pairs = [][2]string{{"0.0.0.0/0", "0.0.0.0/0"}}
	snap := snapshotOf(host, s)
	for i := range snap.Policies {
		p := &snap.Policies[i]
		if p.Mark = (xfrm.Mark{Value: 7, Mask: 0xffffffff}); p.Dir == xfrm.Out {
			p.Mark.Value = 8
		}
	}
	w := compileWorld(t, snap, firewall.Config{})
	web := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("198.51.100.7"), In: "eth1", Out: "eth0", Proto: xfrm.TCP}
	if got := w.forward(web); got.final != rules.Return {
		t.Errorf("cleartext to the internet: %s", got.final)
	}
	if got := w.arrive(clear4("198.51.100.7", sunWAN), nil); got.final != rules.Return {
		t.Errorf("cleartext to the host: %s", got.final)
	}
	through := clear4("10.1.0.10", "10.2.0.10")
	through.In, through.Mark = "vti1", tag
	if got := w.arrive(through, nil); got.final != rules.Accept {
		t.Errorf("out of the VTI: %s", got.final)
	}
	leak := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "eth0", Proto: xfrm.TCP}
	if !w.leaks(leak) {
		t.Error("what is routed into the VTI leaves in clear by another way")
	}
}

// A leased line carries the network while the tunnel is its backup: a route by an
// interface that is no uplink takes from a device's guard, and from a remembered one.
// The default route takes from neither.
func TestLeasedLineWithTheTunnelAsBackup(t *testing.T) {
	host := sunHost()
	s := deviceSite(&host, 1, moonWAN, moonLAN)
	host.Links = append(host.Links, xfrm.Link{Index: 8, Name: "leased0", Up: true})
	leased := host
	leased.Routes = append(slices.Clone(host.Routes), xfrm.Route{Dst: netip.MustParsePrefix(moonLAN), Link: 8, Via: addr("10.250.0.1")})
	remembered := []guard.Guard{{
		Local: netip.MustParsePrefix(sunLAN), Remote: netip.MustParsePrefix(moonLAN), Source: guard.FromMemory, Tunnel: "t1", Expires: 1 << 40,
	}}
	in := clear4("10.1.0.10", "10.2.0.10")
	out := trace.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.10"), In: "eth1", Out: "leased0", Proto: xfrm.TCP}
	for name, w := range map[string]world{
		"device":     compileWorld(t, snapshotOf(leased, s), firewall.Config{}),
		"remembered": compileInput(t, snapshotOf(leased), firewall.Input{Guards: remembered}),
	} {
		in.In, out.Out = "leased0", "leased0"
		if got := w.arrive(in, nil); got.final != rules.Return {
			t.Errorf("%s: in by the leased line: %s", name, got.final)
		}
		if w.leaks(out) {
			t.Errorf("%s: out by the leased line: stopped", name)
		}
		in.In, out.Out = "eth0", "eth0"
		if got := w.arrive(in, nil); got.final != rules.Drop {
			t.Errorf("%s: in by the uplink: %s", name, got.final)
		}
		if !w.leaks(out) {
			t.Errorf("%s: out by the uplink: let through", name)
		}
	}
}

// "level use" is a pair's own: the pairs beside it stay guarded.
func TestOptionalIsAPairs(t *testing.T) {
	s := sunSite()
	s.Pairs = append(s.Pairs, [2]string{sunLAN, "10.9.0.0/24"})
	snap := snapshotOf(sunHost(), s)
	for i := range snap.Policies {
		p := &snap.Policies[i]
		if p.Selector.Src.String() == "10.9.0.0/24" || p.Selector.Dst.String() == "10.9.0.0/24" {
			p.Templates[0].Optional = true
		}
	}
	w := compileWorld(t, snap, firewall.Config{})
	for src, want := range map[string]rules.Verb{"10.1.0.9": rules.Drop, "10.9.0.9": rules.Return} {
		if got := w.arrive(clear4(src, "10.2.0.9"), nil); got.final != want {
			t.Errorf("in clear from %s: %s, want %s", src, got.final, want)
		}
	}
}

// A port of a VRF or bridge shows its master in INPUT and FORWARD, so wan: means both.
func TestPortOfAMasterIsTheWAN(t *testing.T) {
	host := sunHost()
	host.Links[1].Master = 9
	host.Links = append(host.Links, xfrm.Link{Index: 9, Name: "vrf-wan", Kind: "vrf"})
	w := compileWorld(t, snapshotOf(host, sunSite()), firewall.Config{WAN: []string{"eth0"}, Lockdown: &firewall.Lockdown{}})
	esp := clear4(moonWAN, sunWAN)
	esp.Proto, esp.In, esp.DstLocal = xfrm.ESP, "vrf-wan", true
	if got := w.arrive(esp, nil); got.final != rules.Accept {
		t.Errorf("ESP: %s", got.final)
	}
	ssh := clear4("198.51.100.7", sunWAN)
	ssh.In, ssh.DstLocal = "vrf-wan", true
	if got := w.arrive(ssh, nil); got.final != rules.Drop {
		t.Errorf("another packet under lockdown: %s", got.final)
	}
}

// A spoofed packet is stopped by the destination that it came with, whatever NETMAP,
// REDIRECT or DNAT of others makes of it.
func TestSpoofBeforeDNAT(t *testing.T) {
	s := sunSite()
	for name, w := range states(t, sunHost(), s) {
		for _, to := range []string{"192.168.2.10", sunWAN, "10.9.9.9"} {
			got := w.arrive(clear4("10.1.0.10", "10.2.0.10"), func(p *trace.Packet) { p.Dst, p.DstLocal = addr(to), to == sunWAN })
			if got.final != rules.Drop {
				t.Errorf("%s: with DNAT to %s: %s", name, to, got.final)
			}
		}
		got := w.arrive(clear4("198.51.100.7", "10.2.0.10"), func(p *trace.Packet) { p.Dst = addr("192.168.2.10") })
		if got.final != rules.Return {
			t.Errorf("%s: another packet, with DNAT: %s", name, got.final)
		}
	}
}

// A local selector wider than the LAN: only hosts behind the gateway may use it. The
// default route leads to the rest, so the reverse path filter finds nothing wrong.
func TestStrangerInTheRestOfALocalSelector(t *testing.T) {
	s := sunSite()
	s.Pairs = [][2]string{{"10.2.0.0/16", moonLAN}}
	inside := sunHost()
	inside.Routes = append(inside.Routes, xfrm.Route{Dst: netip.MustParsePrefix("10.2.9.0/24"), Link: 2, Via: addr("192.0.2.9")})
	oneArmed := sunHost()
	oneArmed.Addresses, oneArmed.Routes = oneArmed.Addresses[:1], oneArmed.Routes[:1:1]
	oneArmed.Routes = append(oneArmed.Routes, xfrm.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: 2})
	behind := firewall.Config{Behind: []netip.Prefix{netip.MustParsePrefix("10.2.4.0/24")}}
	for _, tc := range []struct {
		name    string
		host    xfrm.Host
		config  firewall.Config
		src, in string
		want    rules.Verb
	}{
		{"a stranger", inside, firewall.Config{}, "10.2.77.1", "eth0", rules.Drop},
		{"the LAN", inside, firewall.Config{}, "10.2.0.9", "eth1", rules.Return},
		{"a network behind a router on the uplink", inside, firewall.Config{}, "10.2.9.9", "eth0", rules.Return},
		{"from inside, routed elsewhere", inside, firewall.Config{}, "10.2.77.1", "eth1", rules.Return},
		{"the LAN of a one-armed gateway", oneArmed, firewall.Config{}, "10.2.77.1", "eth0", rules.Return},
		{"the same, which the configuration knows", oneArmed, behind, "10.2.4.9", "eth0", rules.Return},
		{"a stranger, which the configuration tells", oneArmed, behind, "10.2.77.1", "eth0", rules.Drop},
	} {
		w := compileWorld(t, snapshotOf(tc.host, s), tc.config)
		p := trace.Packet{
			Src: addr(tc.src), Dst: addr("10.1.0.10"), In: tc.in, Out: "eth0", Proto: xfrm.UDP,
			OutBundle: []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: 1}},
		}
		got := w.arrive(p, nil)
		if (got.final == rules.Drop) != (tc.want == rules.Drop) {
			t.Errorf("%s: %s, want %s", tc.name, got.final, tc.want)
		}
		// The same by a port-forward that leads to the other end.
		forwarded := p
		forwarded.Dst, forwarded.Ct = addr(sunWAN), trace.Conntrack{State: rules.CtDNAT, Dir: rules.CtOriginal}
		got = w.arrive(forwarded, func(p *trace.Packet) { p.Dst = addr("10.1.0.10") })
		if tc.want == rules.Drop && got.final != rules.Drop {
			t.Errorf("%s, by a port-forward: %s", tc.name, got.final)
		}
	}
}
