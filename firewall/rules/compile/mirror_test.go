package compile

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/trace"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Most tests tell of IPv4. Each of their worlds has a mirror where everything is
// IPv6, and each of their packets passes that too and must fare the same.

// mirror96 is where the mirror keeps the addresses of IPv4.
var mirror96 = netip.MustParsePrefix("fd64::/96")

// toIPv6 puts an address of IPv4 in the mirror. What both families have of their
// own goes to its like.
func toIPv6(a netip.Addr) netip.Addr {
	switch {
	case !a.Is4():
		return a
	case a.IsUnspecified():
		return netip.IPv6Unspecified()
	case a.IsLoopback():
		return netip.IPv6Loopback()
	}
	in := a.As4()
	out := mirror96.Addr().As16()
	switch {
	case a.IsLinkLocalUnicast():
		out = netip.MustParseAddr("fe80::").As16()
	case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		out = netip.MustParseAddr("ff02::").As16()
	}
	copy(out[12:], in[:])
	return netip.AddrFrom16(out)
}

func toIPv4(a netip.Addr) netip.Addr {
	if !mirror96.Contains(a) {
		return a
	}
	in := a.As16()
	return netip.AddrFrom4([4]byte(in[12:]))
}

var icmpTypes = map[uint8]uint8{0: 129, 3: 1, 5: 137, 8: 128, 11: 3, 12: 4}

// mirrored returns a deep copy of a value with all of IPv4 in it made IPv6.
func mirrored[T any](v T) T {
	out := reflect.New(reflect.TypeFor[T]()).Elem()
	mirrorInto(out, reflect.ValueOf(&v).Elem())
	return out.Interface().(T)
}

func mirrorInto(out, in reflect.Value) {
	switch v := in.Interface().(type) {
	case netip.Addr:
		out.Set(reflect.ValueOf(toIPv6(v)))
		return
	case netip.Prefix:
		if v.IsValid() && v.Addr().Is4() {
			at, bits := toIPv6(v.Addr()), v.Bits()
			if bits > 0 {
				bits += 96
			}
			if bits > 0 && v.Addr().IsUnspecified() {
				at = mirror96.Addr()
			}
			v = netip.PrefixFrom(at, bits)
		}
		out.Set(reflect.ValueOf(v))
		return
	case xfrm.Family:
		if v == xfrm.IPv4 {
			v = xfrm.IPv6
		}
		out.Set(reflect.ValueOf(v))
		return
	case xfrm.Proto:
		switch v {
		case xfrm.ICMP:
			v = xfrm.ICMPv6
		case xfrm.IPIP:
			v = xfrm.IPv6in
		}
		out.Set(reflect.ValueOf(v))
		return
	}
	switch in.Kind() {
	case reflect.Struct:
		for i := range in.NumField() {
			mirrorInto(out.Field(i), in.Field(i))
		}
	case reflect.Slice:
		if in.IsNil() {
			return
		}
		out.Set(reflect.MakeSlice(in.Type(), in.Len(), in.Len()))
		for i := range in.Len() {
			mirrorInto(out.Index(i), in.Index(i))
		}
	case reflect.Map:
		if in.IsNil() {
			return
		}
		out.Set(reflect.MakeMapWithSize(in.Type(), in.Len()))
		for key, value := range in.Seq2() {
			twin := reflect.New(in.Type().Elem()).Elem()
			mirrorInto(twin, value)
			out.SetMapIndex(key, twin)
		}
	case reflect.Array:
		for i := range in.Len() {
			mirrorInto(out.Index(i), in.Index(i))
		}
	case reflect.Pointer:
		if in.IsNil() {
			return
		}
		out.Set(reflect.New(in.Type().Elem()))
		mirrorInto(out.Elem(), in.Elem())
	default:
		out.Set(in)
	}
}

// mirrorPacket is the packet that stands for one of IPv4 in the mirror.
func mirrorPacket(p trace.Packet) trace.Packet {
	icmp := p.Proto == xfrm.ICMP
	p = mirrored(p)
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
		*a = toIPv4(*a)
	}
	return p
}

// mirrorOf compiles the mirror of a world's IPv4, without what else is in its
// tunnels, or returns nil where there is none, or a tunnel of IPv6 alone.
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
	s = mirrored(s)
	set := xfrm.Tunnels(s)
	now, ids := make(map[string]string), make(map[string]string)
	for _, tunnel := range set.Tunnels {
		now[identity(tunnel)] = tunnel.ID
	}
	for _, tunnel := range before.Tunnels {
		tunnel.Pairs = slices.DeleteFunc(slices.Clone(tunnel.Pairs), is6)
		if id, ok := now[identity(mirrored(tunnel))]; ok {
			ids[tunnel.ID] = id
		}
	}
	in = mirrored(in)
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

// purposes are what the rules that a packet matched are for, in their order,
// without those that only lead on.
func (p passage) purposes() []rules.Purpose {
	var list []rules.Purpose
	for _, s := range p.steps {
		if s.Rule.Purpose != rules.PurposeDispatch {
			list = append(list, s.Rule.Purpose)
		}
	}
	return list
}
