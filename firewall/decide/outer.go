package decide

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// espInUDP is the encapsulation type of ESP in UDP (UDP_ENCAP_ESPINUDP, linux/udp.h).
const espInUDP = 2

// hasOwnEncapPort reports whether ESP in UDP arrives for an SA on a port of its own.
// The local end alone counts, because the peer chooses its own.
func hasOwnEncapPort(sa *xfrm.SA) bool {
	return sa.Inbound && sa.Encap.Type == espInUDP && sa.Encap.DPort != firewall.NATT && sa.Encap.DPort != 0
}

func encapPort(sa *xfrm.SA) netip.AddrPort { return netip.AddrPortFrom(sa.Dst, sa.Encap.DPort) }

// configuredPorts are the configuration's ports of IKE at the addresses by which a peer may
// reach this host.
func configuredPorts(ports []uint16, host xfrm.Host) []netip.AddrPort {
	var all []netip.AddrPort
	for _, a := range host.Addresses {
		if guard.NeverJudged(a.Prefix.Addr()) {
			continue
		}
		for _, port := range ports {
			all = append(all, netip.AddrPortFrom(a.Prefix.Addr(), port))
		}
	}
	return all
}

// unnamedPorts warns of ports that lockdown keeps closed until a tunnel is up.
func (d *decider) unnamedPorts() {
	var ports []string
	for _, at := range d.facts.EncapPorts {
		if name := strconv.Itoa(int(at.Port())); at.Port() != firewall.IKE && !slices.Contains(d.Config.IKEPorts, at.Port()) && !slices.Contains(ports, name) {
			ports = append(ports, name)
		}
	}
	if slices.Sort(ports); d.facts.Lockdown != nil && len(ports) > 0 {
		list := strings.Join(ports, ", ")
		d.facts.Warnings = append(d.facts.Warnings, fmt.Sprintf(
			"ESP in UDP comes in by UDP port %s, which lockdown closes while no state stands: write ike_ports: [%s]", list, list))
	}
}

// outerFlow is the outer packets of an inbound SA.
func outerFlow(sa *xfrm.SA, tunnel string) firewall.OuterFlow {
	o := firewall.OuterFlow{Peer: sa.Src, Local: sa.Dst, Proto: sa.Proto, Tunnel: tunnel}
	if sa.Encap.Type == espInUDP {
		o.Proto, o.Port = xfrm.UDP, sa.Encap.DPort
	}
	return o
}

func compareOuterFlows(x, y firewall.OuterFlow) int {
	return cmp.Or(x.Peer.Compare(y.Peer), x.Local.Compare(y.Local), cmp.Compare(x.Proto, y.Proto),
		cmp.Compare(x.Port, y.Port), cmp.Compare(x.Tunnel, y.Tunnel))
}
