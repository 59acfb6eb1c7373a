package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/mirror"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Most tests tell of IPv4. Each of their worlds has a mirror where everything is
// IPv6, and each of their packets passes that too and must fare the same.

var icmpTypes = map[uint8]uint8{0: 129, 3: 1, 5: 137, 8: 128, 11: 3, 12: 4}

// mirrorPacket is the packet that stands for one of IPv4 in the mirror.
func mirrorPacket(p trace.Packet) trace.Packet {
	icmp := p.Proto == xfrm.ICMP
	p = mirror.Of(p)
	if dhcp := map[uint16]uint16{67: 547, 68: 546}; p.Proto == xfrm.UDP && dhcp[p.SPort] > 0 && dhcp[p.DPort] > 0 {
		p.SPort, p.DPort = dhcp[p.SPort], dhcp[p.DPort]
	}
	if icmp {
		if p.ICMPType == 3 && p.ICMPCode == 4 {
			p.ICMPType, p.ICMPCode = 2, 0
		} else if t, ok := icmpTypes[p.ICMPType]; ok {
			p.ICMPType = t
		}
	}
	return p
}

// unmirrorPacket brings a packet back for a change that speaks of IPv4.
func unmirrorPacket(p trace.Packet) trace.Packet {
	for _, a := range []*netip.Addr{&p.Src, &p.Dst, &p.Ct.OrigSrc, &p.Ct.OrigDst, &p.Ct.ReplSrc, &p.Ct.ReplDst} {
		*a = mirror.ToIPv4(*a)
	}
	return p
}

// mirrorOf compiles the mirror of a world's IPv4, without the other pairs of its tunnels.
// It returns nil where there is none, or a tunnel of IPv6 alone.
func mirrorOf(t *testing.T, s xfrm.Snapshot, in firewall.Input) *world {
	t.Helper()
	before := xfrm.Tunnels(s)
	is6 := func(p xfrm.Pair) bool { return p.Remote.Addr().Is6() }
	for _, tunnel := range before.Tunnels {
		if !slices.ContainsFunc(tunnel.Pairs, func(p xfrm.Pair) bool { return !is6(p) }) {
			return nil
		}
	}
	s.Policies = slices.DeleteFunc(slices.Clone(s.Policies), func(p xfrm.Policy) bool { return p.Selector.Src.Addr().Is6() })
	in.Guards = slices.DeleteFunc(slices.Clone(in.Guards), func(g guard.Guard) bool { return g.Remote.Addr().Is6() })
	if len(s.Policies) == 0 && len(in.Guards) == 0 {
		return nil
	}
	host := s.Host
	host.Addresses = slices.DeleteFunc(slices.Clone(host.Addresses), func(a xfrm.Address) bool { return !a.Prefix.Addr().Is4() })
	host.Routes = slices.DeleteFunc(slices.Clone(host.Routes), func(r xfrm.Route) bool { return !r.Dst.Addr().Is4() })
	host.Resolvers = slices.DeleteFunc(slices.Clone(host.Resolvers), func(a netip.Addr) bool { return !a.Is4() })
	host.ESP4Offload, host.ESP6Offload = false, host.ESP4Offload
	s.Host = host
	s = mirror.Of(s)
	set := xfrm.Tunnels(s)
	now, ids := make(map[string]string), make(map[string]string)
	for _, tunnel := range set.Tunnels {
		now[identity(tunnel)] = tunnel.ID
	}
	for _, tunnel := range before.Tunnels {
		tunnel.Pairs = slices.DeleteFunc(slices.Clone(tunnel.Pairs), is6)
		if id, ok := now[identity(mirror.Of(tunnel))]; ok {
			ids[tunnel.ID] = id
		}
	}
	in = mirror.Of(in)
	for i, g := range in.Guards {
		if id, ok := ids[g.Tunnel]; ok {
			in.Guards[i].Tunnel = id
		}
	}
	peers := make(map[string]firewall.Peer)
	for id, p := range in.Peers {
		peers[cmp.Or(ids[id], id)] = p
	}
	in.Set, in.Host, in.Peers = set, s.Host, peers
	return &world{snapshot: s, config: in.Config, eval: compileAll(t, in, new(Result))}
}

// identity is all of a tunnel but its ID, which follows from its addresses.
func identity(t xfrm.Tunnel) string {
	t.ID = ""
	t.Pairs = slices.SortedFunc(slices.Values(t.Pairs), xfrm.Pair.Compare)
	return fmt.Sprintf("%+v", t)
}

// reflects fails the test if a packet fares otherwise in the world's mirror.
func (w world) reflects(p trace.Packet, got passage, send func(world, trace.Packet) passage) {
	w.t.Helper()
	if w.mirror == nil || !p.Src.Is4() {
		return
	}
	twin := mirrorPacket(p)
	there := send(*w.mirror, twin)
	if there.final != got.final || there.mark != got.mark || !slices.Equal(there.purposes(), got.purposes()) {
		w.t.Errorf("in IPv6 it fares otherwise: %+v: verdict %v, mark %#x, %v\n%+v: verdict %v, mark %#x, %v",
			p, got.final, got.mark, got.purposes(), twin, there.final, there.mark, there.purposes())
	}
}

// purposes are the purposes of the rules that a packet matched, in their order, without
// those that only lead on.
func (p passage) purposes() []rules.Purpose {
	var list []rules.Purpose
	for _, s := range p.steps {
		if s.Rule.Purpose != rules.PurposeDispatch {
			list = append(list, s.Rule.Purpose)
		}
	}
	return list
}
