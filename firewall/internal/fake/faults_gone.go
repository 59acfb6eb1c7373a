package fake

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// remember sets the memory to the guards and lines of the gateway as it is now.
func (g *faultHost) remember() {
	in := g.input()
	g.guards = guard.Remember(g.guards, guard.Live(in.Set, in.Host), in.Set, in.Host, nil, guard.Config{}, 1).Guards
}

// goneFaults are packets of networks whose tunnel is gone, or no longer has their route: the
// interface by which a gone tunnel's peer is reached stays one of strangers, and a
// network that another tunnel has now is that one's.
func goneFaults() []Fault {
	const peer = "10.254.0.1"
	// A provider's network of private addresses leads to the peer, and to its network too.
	g := newFaultHost()
	g.link(xfrm.Link{Name: "mpls0"}, "10.0.0.0/8")
	g.connect(connection{reqid: 1, peer: peer, local: "10.2.0.0/24", remote: moonLAN, mode: xfrm.TunnelMode})
	g.remember()
	g.s.Policies, g.s.States = nil, nil
	all := []Fault{
		g.fault("tunnel over a private network, gone: in by it", through("mpls0", "eth1", "10.1.0.10", "10.2.0.10"), firewall.Discard, firewall.Case6),
		g.fault("tunnel over a private network, gone: out by it", through("eth1", "mpls0", "10.2.0.10", "10.1.0.10"), firewall.Refuse, firewall.Case8),
		g.fault("tunnel over a private network, gone: another network by it", through("eth1", "mpls0", "10.2.0.10", "10.9.0.10"), firewall.Leave, firewall.Case9),
	}

	// Two partners with a device each: a network was routed into the first one's for a while.
	for _, was := range []string{"10.0.0.0/8", "10.1.0.0/25"} {
		g = newFaultHost()
		for reqid, name := range []string{1: "ipsecA", 2: "ipsecB"} {
			if reqid == 0 {
				continue
			}
			g.link(xfrm.Link{Name: name, Kind: "xfrm", IfID: uint32(reqid)}, []string{1: "172.23.1.0/24", 2: moonLAN}[reqid])
			g.connect(connection{
				reqid: uint32(reqid), peer: []string{1: moonWAN, 2: "192.0.2.3"}[reqid], local: "0.0.0.0/0", remote: "0.0.0.0/0", mode: xfrm.TunnelMode, ifID: uint32(reqid),
			})
		}
		now := slices.Clip(g.s.Host.Routes)
		g.s.Host.Routes = append(now, xfrm.Route{Dst: netip.MustParsePrefix(was), Link: g.index("ipsecA")})
		g.remember()
		g.s.Host.Routes = now
		g.remember()
		all = append(all,
			g.fault("a network of B that A had ("+was+"): out of A", outOf(1, xfrm.TunnelMode, moonWAN, through("ipsecA", "eth1", "10.1.0.10", "10.2.0.10")), firewall.Discard, firewall.Case7),
			g.fault("a network of B that A had ("+was+"): out of B", outOf(2, xfrm.TunnelMode, "192.0.2.3", through("ipsecB", "eth1", "10.1.0.10", "10.2.0.10")), firewall.Admit, firewall.Case1))
	}
	return all
}
