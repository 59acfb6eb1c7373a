package fake

import (
	"net/netip"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// strangerFaults are packets in by the uplink with a source of a local selector wider than the
// LAN. Where no other interface has a part of the selector, the LAN may be behind the uplink.
func strangerFaults() []Fault {
	p := netip.MustParsePrefix
	site := connection{reqid: 1, peer: moonWAN, local: "10.2.0.0/16", remote: moonLAN, mode: xfrm.TunnelMode}
	stranger := into(1, moonWAN, through("eth0", "eth0", "10.2.77.1", "10.1.0.10"))
	mapped := stranger
	mapped.DstLocal, mapped.Flow.DNAT, mapped.Received.Dst, mapped.Flow.OrigDst = true, true, netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.2")
	var all []Fault
	for _, by := range [][]string{{"0.0.0.0/0"}, {"0.0.0.0/1", "128.0.0.0/1"}} {
		g := newFaultHost()
		g.s.Host.Routes = g.s.Host.Routes[:2]
		for _, dst := range by {
			g.s.Host.Routes = append(g.s.Host.Routes, xfrm.Route{Dst: p(dst), Link: 2})
		}
		g.s.Host.Routes = append(g.s.Host.Routes, xfrm.Route{Dst: p("10.2.0.0/16"), Link: 1}) // a blackhole route
		g.connect(site)
		virtual := newFaultHost()
		virtual.s.Host.Routes = g.s.Host.Routes
		virtual.connect(connection{reqid: 1, peer: moonWAN, local: "10.9.9.9/32", remote: moonLAN, mode: xfrm.TunnelMode, down: true})
		all = append(all, virtual.fault("local selector without an address here, "+by[0]+" by the uplink: the LAN in clear",
			through("eth1", "eth0", "10.2.0.10", "10.1.0.10"), firewall.Refuse, firewall.Case8d))
		name := "local selector wider than the LAN, " + by[0] + " by the uplink: "
		all = append(all,
			g.fault(name+"a stranger into the tunnel", stranger, firewall.Discard, firewall.Case6b),
			g.fault(name+"a stranger into the tunnel by DNAT", mapped, firewall.Discard, firewall.Case6b),
			g.fault(name+"the LAN into the tunnel", into(1, moonWAN, through("eth1", "eth0", "10.2.0.10", "10.1.0.10")), firewall.Admit, firewall.NoCase))
	}
	one := newOneArmed()
	one.connect(site)
	all = append(all, one.fault("local selector of a one-armed gateway: from behind the uplink", stranger, firewall.Admit, firewall.NoCase))
	one.config.Behind = []netip.Prefix{p("10.2.4.0/24")}
	return append(all,
		one.fault("local selector of a one-armed gateway with behind:, from there", into(1, moonWAN, through("eth0", "eth0", "10.2.4.9", "10.1.0.10")), firewall.Admit, firewall.NoCase),
		one.fault("local selector of a one-armed gateway with behind:, a stranger", stranger, firewall.Discard, firewall.Case6b))
}
