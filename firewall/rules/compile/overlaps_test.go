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

// The states in which overlapping selectors are judged. Killed stands for all in which
// xfrmfw was not told: states and policies are there or not, the rules are those of up.
// After a reboot there are the guards of the memory.
const (
	inUp       = "up"
	inOffload  = "offload"
	inTrap     = "trap"
	inKilled   = "killed"
	inFlushed  = "flushed"
	inRebooted = "rebooted"
)

var (
	everyState = []string{inUp, inOffload, inTrap, inKilled, inFlushed, inRebooted}
	whileUp    = []string{inUp, inOffload}
	// whilePolicies are those in which the rules know the policies.
	whilePolicies = []string{inUp, inOffload, inTrap, inKilled}
)

// probe is a packet and the states in which it must be stopped; in the others it
// must not be. One that came out of a state, or goes into one,
// is sent while there are states.
type probe struct {
	name    string
	p       trace.Packet
	hook    string // INPUT and FORWARD arrive, LEAVE is sent or forwarded
	stopped []string
}

// overlap is a gateway with selectors that overlap.
type overlap struct {
	name     string
	host     func() xfrm.Host
	sites    []sample.Site
	policies []xfrm.Policy
	// first are sites that were up before the others.
	first  []sample.Site
	config firewall.Config
	probes []probe
}

func (o overlap) worlds(t *testing.T) map[string]world {
	t.Helper()
	host := sunHost()
	if o.host != nil {
		host = o.host()
	}
	offload := host
	offload.ESP4Offload, offload.ESP6Offload = true, true
	at := func(host xfrm.Host, down bool) xfrm.Snapshot {
		sites := slices.Concat(o.first, o.sites)
		for i := range sites {
			sites[i].Down = down
		}
		s := snapshotOf(host, sites...)
		s.Policies = append(s.Policies, o.policies...)
		return s
	}
	see := func(memory []guard.Guard, s xfrm.Snapshot) []guard.Guard { return remember(memory, s, 1000) }
	var memory []guard.Guard
	if len(o.first) > 0 {
		memory = see(memory, snapshotOf(host, o.first...))
	}
	memory = see(memory, at(host, false))
	compiled := func(s xfrm.Snapshot) world {
		return compileInput(t, s, firewall.Input{Config: o.config, Guards: slices.Concat(memory, o.config.Guard.Pairs)})
	}
	up := compiled(at(host, false))
	left := xfrm.Snapshot{Schema: xfrm.SchemaVersion, Host: host}
	return map[string]world{
		inUp: up, inOffload: compiled(at(offload, false)), inTrap: compiled(at(host, true)), inKilled: up,
		inFlushed: compiled(left), inRebooted: compiled(left),
	}
}

// six is the same overlap in IPv6: each address is the last four bytes of one.
func (o overlap) six() overlap {
	o.name += ", IPv6"
	host := sunHost()
	if o.host != nil {
		host = o.host()
	}
	host.Addresses, host.Routes = slices.Clone(host.Addresses), slices.Clone(host.Routes)
	for i := range host.Addresses {
		host.Addresses[i].Prefix = sixPrefix(host.Addresses[i].Prefix)
	}
	for i := range host.Routes {
		host.Routes[i].Dst, host.Routes[i].Via = sixPrefix(host.Routes[i].Dst), sixAddr(host.Routes[i].Via)
	}
	o.host = func() xfrm.Host { return host }
	text := func(p string) string { return sixPrefix(netip.MustParsePrefix(p)).String() }
	sites := func(old []sample.Site) []sample.Site {
		all := slices.Clone(old)
		for i := range all {
			s := &all[i]
			s.Local, s.Remote, s.Pairs = sixAddr(addr(s.Local)).String(), sixAddr(addr(s.Remote)).String(), slices.Clone(s.Pairs)
			for j, pair := range s.Pairs {
				s.Pairs[j] = [2]string{text(pair[0]), text(pair[1])}
			}
		}
		return all
	}
	o.first, o.sites = sites(o.first), sites(o.sites)
	o.policies = slices.Clone(o.policies)
	for i := range o.policies {
		s := &o.policies[i].Selector
		s.Family, s.Src, s.Dst = xfrm.IPv6, sixPrefix(s.Src), sixPrefix(s.Dst)
	}
	o.config.Guard.Pairs = slices.Clone(o.config.Guard.Pairs)
	for i := range o.config.Guard.Pairs {
		g := &o.config.Guard.Pairs[i]
		g.Local, g.Remote = sixPrefix(g.Local), sixPrefix(g.Remote)
	}
	o.probes = slices.Clone(o.probes)
	for i := range o.probes {
		p := &o.probes[i].p
		p.Src, p.Dst, p.SecPath = sixAddr(p.Src), sixAddr(p.Dst), slices.Clone(p.SecPath)
		for j := range p.SecPath {
			p.SecPath[j].Src, p.SecPath[j].Dst = sixAddr(p.SecPath[j].Src), sixAddr(p.SecPath[j].Dst)
		}
	}
	return o
}

func sixAddr(a netip.Addr) netip.Addr {
	if !a.Is4() {
		return a
	}
	bytes := addr("2001:db8::").As16()
	copy(bytes[12:], a.AsSlice())
	return netip.AddrFrom16(bytes)
}

func sixPrefix(p netip.Prefix) netip.Prefix {
	switch {
	case !p.Addr().Is4():
		return p
	case p.Bits() == 0:
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(sixAddr(p.Addr()), p.Bits()+96)
}

func (w world) stops(p probe) (bool, passage) {
	var got passage
	switch p.hook {
	case "LEAVE":
		got = w.forward(p.p)
		if p.p.SrcLocal {
			got = w.send(p.p)
		}
	default:
		p.p.DstLocal = p.hook == "INPUT"
		got = w.arrive(p.p, nil)
	}
	return got.final == rules.Drop || got.final == rules.Reject, got
}

func lan(in, src, dst string) trace.Packet {
	p := clear4(src, dst)
	p.In = in
	return p
}

func leaving(out, src, dst string) trace.Packet {
	return trace.Packet{Src: addr(src), Dst: addr(dst), In: "eth1", Out: out, Proto: xfrm.TCP, SPort: 1024, DPort: 80}
}

// into is a packet that is about to be encrypted.
func into(reqid uint32, in, src, dst string) trace.Packet {
	p := lan(in, src, dst)
	p.Out, p.OutBundle = "eth0", []xfrm.Transform{{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: reqid}}
	return p
}

func own(p trace.Packet) trace.Packet {
	p.In, p.SrcLocal = "", true
	return p
}

// through is a packet that came out of several states, the outer one first.
func through(src, dst string, reqids ...uint32) trace.Packet {
	p := from(reqids[0], src, dst)
	p.SecPath = nil
	for _, reqid := range reqids {
		p.SecPath = append(p.SecPath, xfrm.Transform{Proto: xfrm.ESP, Mode: xfrm.TunnelMode, Reqid: reqid, Src: addr(moonWAN), Dst: addr(sunWAN)})
	}
	p.Mark |= tag
	return p
}

// overlaps are the ways in which selectors overlap that sites really have.
func overlaps() []overlap {
	inner := func() xfrm.Host {
		host := sunHost()
		host.Addresses[1].Prefix = netip.MustParsePrefix("10.1.0.1/16")
		host.Routes[1].Dst = netip.MustParsePrefix("10.1.0.0/16")
		return host
	}
	client := func() xfrm.Host {
		host := sunHost()
		host.Links = host.Links[:2]
		host.Addresses = []xfrm.Address{{Link: 2, Prefix: netip.MustParsePrefix("192.168.1.20/24")}}
		host.Routes = []xfrm.Route{
			{Dst: netip.MustParsePrefix("192.168.1.0/24"), Link: 2, Connected: true}, {Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: 2, Via: addr("192.168.1.1")},
		}
		return host
	}
	armed := func() xfrm.Host {
		host := sunHost()
		host.Links = host.Links[:2]
		host.Addresses[1].Link, host.Routes[1].Link = 2, 2
		return host
	}
	grown := func() xfrm.Host { // the pool's network is on the LAN now
		host := sunHost()
		host.Addresses = append(host.Addresses, xfrm.Address{Link: 3, Prefix: netip.MustParsePrefix("10.60.0.1/24")})
		host.Routes = append(host.Routes, xfrm.Route{Dst: netip.MustParsePrefix("10.60.0.0/24"), Link: 3, Connected: true})
		return host
	}
	wide := overlap{
		name: "a remote 10/8 over a local 10.1/16", host: inner,
		sites: []sample.Site{peer(1, moonWAN, [2]string{"10.1.0.0/16", "10.0.0.0/8"})},
		probes: []probe{
			{"a LAN host to the gateway", lan("eth1", "10.1.5.5", "10.1.0.1"), "INPUT", nil},
			{"the gateway to a LAN host", own(leaving("eth1", "10.1.0.1", "10.1.5.5")), "LEAVE", nil},
			{"through the tunnel", tagged(from(1, "10.9.0.9", "10.1.5.5")), "FORWARD", nil},
			{"the far side in clear", lan("eth0", "10.9.0.9", "10.1.5.5"), "FORWARD", everyState},
			{"the far side in clear, to the gateway", lan("eth0", "10.9.0.9", "10.1.0.1"), "INPUT", everyState},
			{"a LAN address from outside", lan("eth0", "10.1.5.6", "10.1.5.5"), "FORWARD", everyState},
			{"to the far side in clear", leaving("eth0", "10.1.5.5", "10.9.0.9"), "LEAVE", everyState},
		},
	}
	named := wide
	named.name += ", configured"
	named.config.Guard.Pairs = []guard.Guard{{Local: netip.MustParsePrefix("10.1.0.0/16"), Remote: netip.MustParsePrefix("10.0.0.0/8"), Source: guard.FromConfig}}
	second := "203.0.113.2"
	return []overlap{
		wide, named,
		{
			name:  "nested selectors of two tunnels",
			sites: []sample.Site{peer(1, moonWAN, [2]string{sunLAN, "10.1.0.0/16"}), peer(2, second, [2]string{sunLAN, "10.1.5.0/24"})},
			probes: []probe{
				{"the wider one's", tagged(from(1, "10.1.9.9", "10.2.0.10")), "FORWARD", nil},
				{"the narrower one's", tagged(from(2, "10.1.5.9", "10.2.0.10")), "FORWARD", nil},
				{"the wider one's out of the narrower", tagged(from(2, "10.1.9.9", "10.2.0.10")), "FORWARD", whileUp},
				{"the wider one's in clear", lan("eth0", "10.1.9.9", "10.2.0.10"), "FORWARD", everyState},
				{"the narrower one's in clear", lan("eth0", "10.1.5.9", "10.2.0.1"), "INPUT", everyState},
				{"to the wider one in clear", leaving("eth0", "10.2.0.10", "10.1.9.9"), "LEAVE", everyState},
				{"to the narrower one in clear", leaving("eth0", "10.2.0.10", "10.1.5.9"), "LEAVE", everyState},
			},
		},
		{
			name:  "nested states, and the peer of one inside the other",
			first: []sample.Site{peer(1, moonWAN, [2]string{sunLAN, moonLAN})},
			sites: []sample.Site{{Reqid: 2, Local: "10.2.0.1", Remote: "10.1.0.20", Pairs: [][2]string{{"0.0.0.0/0", "10.1.0.20/32"}}}},
			probes: []probe{
				{"the outer packet of the inner one", through("10.1.0.20", "10.2.0.1", 1), "INPUT", nil},
				{"the inner one's", through("10.1.0.20", "198.51.100.7", 1, 2), "FORWARD", nil},
				{"the outer one's", through("10.1.0.10", "10.2.0.10", 1), "FORWARD", nil},
				{"nobody's out of both", through("172.16.9.9", "10.2.0.10", 1, 2), "FORWARD", whileUp},
				{"the inner one's in clear", lan("eth0", "10.1.0.20", "198.51.100.7"), "FORWARD", everyState},
				{"the outer one's in clear", lan("eth0", "10.1.0.10", "10.2.0.10"), "FORWARD", everyState},
				{"to the inner one in clear", leaving("eth0", "198.51.100.7", "10.1.0.20"), "LEAVE", everyState},
				{"to the outer one in clear", leaving("eth0", "10.2.0.10", "10.1.0.10"), "LEAVE", everyState},
			},
		},
		{
			name:  "host to host, the selectors are the outer addresses",
			sites: []sample.Site{{Reqid: 1, Local: sunWAN, Remote: moonWAN, Transport: true, Pairs: [][2]string{{sunWAN + "/32", moonWAN + "/32"}}}},
			probes: []probe{
				{"through it", tagged(from(1, moonWAN, sunWAN)), "INPUT", nil},
				{"in clear", lan("eth0", moonWAN, sunWAN), "INPUT", everyState},
				{"to the peer in clear", own(leaving("eth0", sunWAN, moonWAN)), "LEAVE", everyState},
				{"a neighbour", lan("eth0", "192.0.2.77", sunWAN), "INPUT", nil},
				{"IKE", trace.Packet{Src: addr(moonWAN), Dst: addr(sunWAN), In: "eth0", Proto: xfrm.UDP, SPort: 500, DPort: 500}, "INPUT", nil},
				{"ESP", trace.Packet{Src: addr(moonWAN), Dst: addr(sunWAN), In: "eth0", Proto: xfrm.ESP}, "INPUT", nil},
			},
		},
		{
			name: "a road warrior's client of everything, with a bypass for its LAN", host: client,
			sites: []sample.Site{{Reqid: 1, Local: "192.168.1.20", Remote: moonWAN, Pairs: [][2]string{{"192.168.1.20/32", "0.0.0.0/0"}}}},
			policies: []xfrm.Policy{
				bypass("192.168.1.20/32", "192.168.1.0/24", xfrm.Out, 10), bypass("192.168.1.0/24", "192.168.1.20/32", xfrm.In, 10),
			},
			probes: []probe{
				{"through it", tagged(from(1, "198.51.100.7", "192.168.1.20")), "INPUT", nil},
				{"the LAN", lan("eth0", "192.168.1.7", "192.168.1.20"), "INPUT", nil},
				{"to the LAN", own(leaving("eth0", "192.168.1.20", "192.168.1.7")), "LEAVE", nil},
				{"the internet in clear", lan("eth0", "198.51.100.7", "192.168.1.20"), "INPUT", whilePolicies},
				{"to the internet in clear", own(leaving("eth0", "192.168.1.20", "198.51.100.7")), "LEAVE", whilePolicies},
				{"its IKE", trace.Packet{Src: addr("192.168.1.20"), Dst: addr(moonWAN), Out: "eth0", SrcLocal: true, Proto: xfrm.UDP, SPort: 4500, DPort: 4500}, "LEAVE", nil},
			},
		},
		{
			name: "a gateway with one interface", host: armed,
			sites: []sample.Site{sunSite()},
			probes: []probe{
				{"through it", tagged(from(1, "10.1.0.10", "10.2.0.10")), "FORWARD", nil},
				{"a LAN host to the gateway", lan("eth0", "10.2.0.10", "10.2.0.1"), "INPUT", nil},
				{"a LAN host into it", into(1, "eth0", "10.2.0.10", "10.1.0.10"), "FORWARD", nil},
				{"the far side in clear", lan("eth0", "10.1.0.10", "10.2.0.10"), "FORWARD", everyState},
				{"to the far side in clear", leaving("eth0", "10.2.0.10", "10.1.0.10"), "LEAVE", everyState},
			},
		},
		{
			name:  "a pool within the LAN, whose address becomes a host's",
			sites: []sample.Site{peer(1, second, [2]string{sunLAN, "10.2.0.200/32"})},
			probes: []probe{
				{"through it", tagged(from(1, "10.2.0.200", "10.2.0.10")), "FORWARD", nil},
				{"the LAN host", lan("eth1", "10.2.0.200", "10.2.0.1"), "INPUT", nil},
				{"to the LAN host", own(leaving("eth1", "10.2.0.1", "10.2.0.200")), "LEAVE", nil},
				{"from outside", lan("eth0", "10.2.0.200", "10.2.0.10"), "FORWARD", whilePolicies},
				{"to outside", leaving("eth0", "10.2.0.10", "10.2.0.200"), "LEAVE", whilePolicies},
			},
		},
		{
			name: "a pool whose network comes to the LAN", host: grown,
			sites: []sample.Site{peer(1, second, [2]string{sunLAN, "10.60.0.7/32"}), peer(2, "203.0.113.3", [2]string{sunLAN, "10.60.0.0/24"})},
			probes: []probe{
				{"through it", tagged(from(1, "10.60.0.7", "10.2.0.10")), "FORWARD", nil},
				{"the LAN host", lan("eth1", "10.60.0.7", "10.2.0.1"), "INPUT", nil},
				{"to the LAN host", own(leaving("eth1", "10.2.0.1", "10.60.0.7")), "LEAVE", nil},
				{"from outside", lan("eth0", "10.60.0.7", "10.2.0.10"), "FORWARD", everyState},
			},
		},
		{
			name: "a peer that narrows to what is not its own",
			sites: []sample.Site{
				peer(1, moonWAN, [2]string{sunLAN, moonLAN}),
				peer(2, second, [2]string{sunLAN, "198.51.100.53/32"}, [2]string{sunLAN, "9.9.9.9/32"}, [2]string{sunLAN, "10.2.0.10/32"},
					[2]string{sunLAN, "192.0.2.0/24"}, [2]string{sunLAN, "0.0.0.0/0"}, [2]string{sunLAN, "10.1.0.7/32"}),
			},
			probes: []probe{
				{"the site's out of its own", tagged(from(1, "10.1.0.7", "10.2.0.10")), "FORWARD", nil},
				{"a public address", lan("eth0", "198.51.100.53", "10.2.0.10"), "FORWARD", whilePolicies},
				{"to a public address", leaving("eth0", "10.2.0.10", "198.51.100.53"), "LEAVE", whilePolicies},
				{"to the name server", leaving("eth0", "10.2.0.10", "9.9.9.9"), "LEAVE", whilePolicies},
				{"to the next hop's network", leaving("eth0", "10.2.0.10", "192.0.2.254"), "LEAVE", nil},
				{"a LAN host", lan("eth1", "10.2.0.10", "10.2.0.1"), "INPUT", nil},
				{"the site in clear", lan("eth0", "10.1.0.7", "10.2.0.10"), "FORWARD", everyState},
				{"to the site in clear", leaving("eth0", "10.2.0.10", "10.1.0.7"), "LEAVE", everyState},
			},
		},
	}
}

// Every way of overlapping, in every state.
func TestOverlapsInEveryState(t *testing.T) {
	all := overlaps()
	for _, o := range overlaps() {
		all = append(all, o.six())
	}
	for _, o := range all {
		t.Run(o.name, func(t *testing.T) {
			for state, w := range o.worlds(t) {
				for _, p := range o.probes {
					if len(p.p.SecPath)+len(p.p.OutBundle) > 0 && !slices.Contains(whileUp, state) {
						continue
					}
					if state == inOffload {
						p.p.Mark = 0
					}
					stopped, got := w.stops(p)
					if want := slices.Contains(p.stopped, state); stopped != want {
						t.Errorf("%s: %s: stopped %v, want %v: %v", state, p.name, stopped, want, got.steps)
					}
					if len(p.p.SecPath)+len(p.p.OutBundle) > 0 && p.stopped == nil && got.final != rules.Accept {
						t.Errorf("%s: %s: verdict %s, want accept", state, p.name, got.final)
					}
				}
			}
		})
	}
}
