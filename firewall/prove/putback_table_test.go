package prove

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/rules/layout"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Reasons why faults are not found that several have.
const (
	oneSource  = "a packet has one source and one policy in the model, those before SNAT"
	cut        = "it cuts: the facts alone say what must pass"
	limits     = "the facts alone say what the configuration limits"
	noPacket   = "it is no matter of packets"
	fromMemory = "the memory is given to the proof as it is to the rules: a pair that it lacks is none"
)

// putBacks are the faults of issue 16 in their order. Those without a world are not to be
// put back in a packet filter.
func putBacks() []putBack {
	var all []putBack
	for _, kind := range [][]putBack{natFaults(), deviceFaults(), policyFaults(), otherFaults()} {
		all = append(all, kind...)
	}
	return all
}

func natFaults() []putBack {
	const (
		gone = "tunnel over a private network, gone: in by it"
		wide = "local selector wider than the LAN, 0.0.0.0/0 by the uplink: a stranger into the tunnel"
	)
	return []putBack{
		{
			fault: "A: a spoof that DNAT takes out of the selector", world: gone,
			how:   "no guard in PREROUTING asks for the destination before DNAT",
			rules: without(layout.ChainPre, layout.ChainArriving), table: lacking("case 6", "pre"),
			inRules: "spoof forged kernel-in",
			inTable: "spoof spoof-error kernel-in",
			inFacts: "kernel-in",
		},
		{
			fault: "A: a leak that NAT maps into the selector", world: gone,
			how: "the guard of leaving packets stands before srcnat", why: oneSource,
			table: func(t *sets.Table) {
				for i := range t.Chains {
					if t.Chains[i].Name == "post" {
						t.Chains[i].Base.Priority = 50
					}
				}
			},
		},
		{
			fault: "A: a trap policy that NAT maps into", world: "to a second gateway on the LAN",
			how: "the destination alone decides while the tunnel is down", why: cut,
			facts: func(f *firewall.Facts) {
				for i := range f.Guards {
					f.Guards[i].ByDestination = true
				}
			},
			inRules: "accepted others",
			inTable: "accepted others",
		},
		{
			fault: "A: masquerade in a table of the host's own", world: wide,
			how: "no chain binds sources before srcnat", why: "NAT of other tables is not read",
			table: func(t *sets.Table) {
				t.Chains = slices.DeleteFunc(t.Chains, func(c sets.Chain) bool { return c.Name == "nat" })
			},
			inTable: "nat",
		},
		{
			fault: "A: SNAT maps a stranger into the selector", world: wide,
			how: "no rule behind SNAT asks where the flow came from", why: oneSource,
			table: lacking("case 6b: a stranger, behind NAT", "post"),
		},
		{
			fault: "B: a stranger with a source that the default route alone leads to", world: wide,
			how: "all of a local selector is the LAN's", facts: func(f *firewall.Facts) { f.PartlyBehind = nil },
			inRules: "inject inject-dnat forged kernel-inject",
			inTable: "inject kernel-inject",
			inFacts: "kernel-inject",
		},
	}
}

// everything is a guard of all packets.
func everything() firewall.GuardFacts {
	any := netip.MustParsePrefix("0.0.0.0/0")
	return firewall.GuardFacts{Guard: guard.Guard{Local: any, Remote: any, Source: guard.FromPolicy, Dirs: 7}}
}

func deviceFaults() []putBack {
	overlays := func(change func(*firewall.Overlay)) func(*firewall.Facts) {
		return func(f *firewall.Facts) {
			for i := range f.Overlays {
				change(&f.Overlays[i])
			}
			for i := range f.Restrictions {
				for j := range f.Restrictions[i].Overlays {
					change(&f.Restrictions[i].Overlays[j])
				}
			}
		}
	}
	gives := func(spares func(firewall.Network) bool) func(*firewall.Facts) {
		return func(f *firewall.Facts) {
			for i := range f.Guards {
				f.Guards[i].Exempt = slices.DeleteFunc(slices.Clone(f.Guards[i].Exempt), spares)
			}
		}
	}
	return []putBack{
		{
			fault: "C: a VTI, from beyond remote:", world: "out of a VTI, beyond the cap",
			how: "any source is verified out of the device", facts: overlays(func(o *firewall.Overlay) { o.Sources = nil }),
			inRules: "verified inject",
			inTable: "verified inject",
			why:     "the kernel does not know which remote: is a tunnel's",
		},
		{
			fault: "C: a peer of an xfrm interface, from what is routed into another's", world: "out of an xfrm interface for everything, from another peer's",
			how: "claims are those of the policies", facts: func(f *firewall.Facts) {
				for i := range f.Claims {
					f.Claims[i].Pair.Remote = netip.MustParsePrefix("0.0.0.0/0")
				}
			},
			inRules: "verified crossed told tagged wiped stranger others kernel-source",
			inTable: "verified crossed stranger accepted others kernel-source",
			inFacts: "kernel-source",
		},
		{
			fault: "C: out: of two tunnels on one xfrm interface", world: "into a shared xfrm interface, the one with out:", why: limits,
			how: "the first tunnel's holds for all that goes into the device", facts: func(f *firewall.Facts) {
				for i := range f.Restrictions {
					f.Restrictions[i].Into = []firewall.Into{{Device: "ipsec0"}}
				}
			},
			inRules: "accepted others",
			inTable: "accepted others",
		},
		{
			fault: "C: a VTI that peers share", world: "out of a shared VTI, the tunnel with in:", why: limits,
			how: "all that comes out of it is the first tunnel's", facts: func(f *firewall.Facts) {
				f.Overlays = f.Overlays[:1]
				f.Overlays[0].Sources = nil
				f.Restrictions = nil
			},
			inRules: "verified inject told restricted-in restricted-out wiped forged",
			inTable: "verified inject told restricted-in restricted-out",
		},
		{
			fault: "C: a VTI with ikey other than okey", world: "VTI with two keys: the LAN to the internet",
			how: "the policies of the other key guard everything", facts: func(f *firewall.Facts) { f.Guards = append(slices.Clone(f.Guards), everything()) },
			inRules: "told tagged accepted others",
			inTable: "open accepted others",
			why:     cut,
		},
		{
			fault: "C: a leased line with the tunnel as its backup", world: "tunnel as a backup (memory), with a route by a leased line: in by the line", why: cut,
			how: "guards give way to no line", facts: gives(func(n firewall.Network) bool { return n.Device == "leased0" }),
			inRules: "told tagged others",
			inTable: "open accepted others",
		},
		{
			fault: "C: the same addresses in another VRF", world: "in another VRF than a tunnel's xfrm, with its own default route: in", why: cut,
			how: "guards hold in all VRFs", facts: gives(func(firewall.Network) bool { return true }),
			inRules: "told tagged accepted others",
			inTable: "open accepted others",
		},
		{
			fault: "C: wan: names a port of a VRF", world: "in another VRF than a tunnel's xfrm, with its own default route: in", why: limits,
			alter: func(in *firewall.Input) {
				in.Config.WAN, in.Config.Lockdown = []string{"eth3"}, &firewall.Lockdown{}
			},
			how: "lockdown holds for the port alone", facts: func(f *firewall.Facts) { f.WAN = []string{"eth3"} },
			inRules: "lockdown forged open",
			inTable: "lockdown",
		},
		{
			fault: "C: GRE over transport ESP, in clear", world: "in clear, from what is routed into a VLAN above gretap", why: "the kernel's policies name the carriers, and not what is routed into the device",
			how: "no guard is made of routes into the device", facts: func(f *firewall.Facts) {
				f.Guards = slices.DeleteFunc(slices.Clone(f.Guards), func(g firewall.GuardFacts) bool { return g.Routed })
			},
			inRules: "spoof spoof-error inject told leak leak-error wiped forged",
			inTable: "spoof inject leak",
		},
		{
			fault: "C: VXLAN or Geneve by two connections", world: "carrier of Geneve, out of the connection that carries this direction", why: cut,
			how: "the carriers of both directions are the other connection's", facts: overlays(func(o *firewall.Overlay) { o.In.Reqid = 2 }),
			inRules: "verified tunnels crossed told tagged wiped stranger accepted others",
			inTable: "verified crossed stranger accepted others",
		},
		{
			fault: "C: mGRE", world: "carrier of mGRE, out of its tunnel", why: cut,
			how: "no overlay is known", facts: func(f *firewall.Facts) { f.Overlays, f.OpenDevices = nil, nil },
			inRules: "verified tunnels crossed told tagged wiped forged stranger accepted others",
			inTable: "verified tunnels crossed stranger open accepted others",
		},
		{
			fault: "C: a VLAN above a gretap or its bridge", world: "out of tap1.5, with the carrier's mark", why: cut,
			how: "an overlay is one device", facts: overlays(func(o *firewall.Overlay) { o.Devices = o.Devices[:1] }),
			inRules: "tunnels told tagged accepted others",
			inTable: "tunnels open accepted others",
		},
	}
}

func policyFaults() []putBack {
	guards := func(change func([]firewall.GuardFacts) []firewall.GuardFacts) func(*firewall.Facts) {
		return func(f *firewall.Facts) { f.Guards = change(slices.Clone(f.Guards)) }
	}
	noExceptions := guards(func(list []firewall.GuardFacts) []firewall.GuardFacts {
		return slices.DeleteFunc(list, func(g firewall.GuardFacts) bool { return g.Exception })
	})
	exceptionsFirst := guards(func(list []firewall.GuardFacts) []firewall.GuardFacts {
		slices.SortStableFunc(list, func(a, b firewall.GuardFacts) int { return xfrm.CompareBool(b.Exception, a.Exception) })
		return list
	})
	host := func(peer string) xfrm.Pair {
		return xfrm.Pair{Local: netip.MustParsePrefix("192.0.2.2/32"), Remote: netip.MustParsePrefix(peer), Dirs: 7}
	}
	guardOf := func(p xfrm.Pair) firewall.GuardFacts {
		return firewall.GuardFacts{
			Guard:  guard.Guard{Local: p.Local, Remote: p.Remote, Proto: p.Proto, RemotePort: p.RemotePort, Source: guard.FromPolicy, Dirs: 7},
			Locals: []netip.Prefix{p.Local},
		}
	}
	overlay := host("192.0.2.1/32")
	overlay.Proto, overlay.RemotePort = xfrm.UDP, xfrm.PortMatch{Port: 4789, Mask: 0xffff}
	return []putBack{
		{
			fault: "D: policies chosen by a mark", world: "policies chosen by a mark: a packet without it goes out",
			how: "they guard everything", facts: func(f *firewall.Facts) { f.Guards = append(slices.Clone(f.Guards), everything()) },
			inRules: "tagged accepted others",
			inTable: "open accepted others",
			why:     cut,
		},
		{
			fault: "D: a policy for dir out alone", world: "a policy for dir out alone: what comes in is told by its hosts", why: cut,
			how: "what comes in is told by the selector, and it is guarded", facts: func(f *firewall.Facts) {
				f.Guards = append(slices.Clone(f.Guards), guardOf(overlay))
				f.Claims = slices.Clone(f.Claims)
				for i := range f.Claims {
					f.Claims[i].Pair.Proto, f.Claims[i].Pair.RemotePort = overlay.Proto, overlay.RemotePort
				}
			},
			inRules: "tunnels tagged wiped accepted others",
			inTable: "accepted others",
		},
		{
			fault: "D: a bypass with a mark", world: "bypass by a mark: out with the mark", why: cut,
			how: "it is no exception", facts: noExceptions,
			inRules: "told tagged accepted others",
			inTable: "open accepted others",
		},
		{
			fault: "D: opportunistic groups", world: "opportunistic: in from a host that was not asked yet",
			how: "the trap guards its selector", facts: func(f *firewall.Facts) { f.Guards = append(slices.Clone(f.Guards), guardOf(host("0.0.0.0/0"))) },
			inRules: "tagged others",
			inTable: "open accepted others",
			why:     cut,
		},
		{
			fault: "D: a bypass for dir in alone", world: "bypass for dir in alone: forwarded",
			how: "it holds for forwarded packets too", facts: guards(func(list []firewall.GuardFacts) []firewall.GuardFacts {
				for i := range list {
					list[i].Dirs |= 1<<xfrm.In | 1<<xfrm.Fwd
				}
				return list
			}),
			inRules: "spoof forged kernel-in",
			inTable: "spoof kernel-in",
			inFacts: "kernel-in",
		},
		{
			fault: "D: equal priority, the bypass is younger", world: "equal priority: the tunnel is older, out",
			how: "the narrower policy comes first", facts: exceptionsFirst,
			inRules: "spoof spoof-error inject told leak leak-nat leak-error wiped forged kernel-in kernel-out kernel-inject",
			inTable: "spoof spoof-error inject leak leak-nat leak-error kernel-in kernel-out kernel-inject",
			inFacts: "kernel-in kernel-out kernel-inject",
		},
		{
			fault: "D: level use beside a required pair", world: "level use beside a required pair: in",
			how: "a pair is required if one of its tunnel is", facts: noExceptions,
			inRules: "told tagged accepted others",
			inTable: "open accepted others",
			why:     cut,
		},
		{
			fault: "D: a block policy with disable_policy", world: "a block policy in front of the tunnel: in, which no kernel may check",
			how: "it is an exception", facts: guards(func(list []firewall.GuardFacts) []firewall.GuardFacts {
				g := guardOf(xfrm.Pair{Local: netip.MustParsePrefix("10.2.0.0/24"), Remote: netip.MustParsePrefix("10.1.0.0/24")})
				g.Exception, g.Locals = true, nil
				return append([]firewall.GuardFacts{g}, list...)
			}),
			inRules: "spoof spoof-error inject told leak leak-nat leak-error wiped forged kernel-in kernel-out kernel-inject",
			inTable: "spoof spoof-error inject leak leak-nat leak-error kernel-in kernel-out kernel-inject",
			inFacts: "kernel-in kernel-out kernel-inject",
		},
		{
			fault: "D: transport mode with reqid 0", world: "transport mode with reqid 0: out of the one peer's states", why: cut,
			how: "the tunnel claims nothing", facts: func(f *firewall.Facts) { f.Claims, f.Known = nil, nil },
			inRules: "tunnels crossed wiped accepted",
			inTable: "tunnels crossed accepted",
		},
		{
			fault: "D: two transport peers with one reqid", world: "one reqid for several hosts in transport mode: not verified",
			how: "both claim their addresses", facts: func(f *firewall.Facts) {
				for _, peer := range []string{"192.0.2.1/32", "192.0.2.66/32"} {
					sa := firewall.SAMatch{Proto: xfrm.ESP, Reqid: 5}
					f.Claims = append(f.Claims, firewall.Claim{Pair: host(peer), In: sa, Out: sa, Live: true})
				}
			},
			why:     "packets of two peers with one reqid look alike in PREROUTING",
			inRules: "verified tagged others",
			inTable: "accepted others",
		},
		{fault: "D: a protocol selector to a router is not remembered", why: fromMemory},
	}
}

func otherFaults() []putBack {
	return []putBack{
		{fault: "E: ip rule fwmark without a mask", why: noPacket + ": nothing was applied"},
		{
			fault: "E: a rule that restores the mark wipes VERIFIED", world: "a network of B that A had (10.0.0.0/8): out of B",
			how:   "filter accepts by VERIFIED alone, and no chain before it tells it again",
			rules: without("XFRMFW-FWD", layout.ChainBare), table: lacking("cases 1 to 3", "forward_", "input_"),
			why:     cut,
			inRules: "wiped",
			inTable: "tunnels accepted",
		},
		{fault: "F: a clock far behind at a boot", why: fromMemory},
		{fault: "F: one peer with hundreds of outer addresses", why: fromMemory},
		{fault: "F: a disk that takes nothing", why: fromMemory},
		{fault: "F: a remote selector that covers own networks", why: fromMemory},
		{fault: "G: flowtables", why: "their packets meet no rule"},
		{fault: "G: source routing and segment routing", why: "a packet has one destination in the model"},
		{
			fault: "G: bridged frames between a pair's addresses", world: "out of br0, with the carrier's mark",
			how: "guards judge what a bridge passes on", table: lacking("a bridge passes it on", "hit_spoof", "hit_inject"),
			why: "the model has no addresses of the link layer",
		},
		{
			fault: "G: a second gateway on the LAN", world: "to a second gateway on the LAN", why: cut,
			how: "what leaves by the LAN's interface is a leak", facts: func(f *firewall.Facts) { f.Inside = nil },
			inRules: "accepted others",
			inTable: "others",
		},
		{fault: "G: new flows into a 0/0 tunnel with a virtual address", why: "it is accepted as designed, and doctor says so"},
		{
			fault: "G: a port of IKE's of the host's own", world: "lockdown: a named port of IKE's, the first packet", why: cut,
			how: "500 and 4500 are the only ports of IKE", facts: func(f *firewall.Facts) { f.EncapPorts = nil },
			inRules: "told tagged open others",
			inTable: "open accepted others",
		},
		{fault: "G: counters, words and remedies of doctor and status", why: noPacket},
	}
}
