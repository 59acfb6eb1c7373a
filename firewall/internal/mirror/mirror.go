// Package mirror makes IPv6 of IPv4 in values of tests, so that each case is asked in both families.
package mirror

import (
	"net/netip"
	"reflect"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// mirror96 is where the mirror keeps the addresses of IPv4.
var mirror96 = netip.MustParsePrefix("fd64::/96")

// ToIPv6 maps an address of IPv4 to IPv6. Special addresses, such as multicast, map to
// those of their kind.
func ToIPv6(a netip.Addr) netip.Addr {
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

// ToIPv4 brings an address of the mirror back.
func ToIPv4(a netip.Addr) netip.Addr {
	if !mirror96.Contains(a) {
		return a
	}
	in := a.As16()
	return netip.AddrFrom4([4]byte(in[12:]))
}

// Of returns a deep copy of a value with all of IPv4 in it made IPv6. The value
// has no unexported fields.
func Of[T any](v T) T {
	out := reflect.New(reflect.TypeFor[T]()).Elem()
	mirrorInto(out, reflect.ValueOf(&v).Elem())
	return out.Interface().(T)
}

func mirrorInto(out, in reflect.Value) {
	switch v := in.Interface().(type) {
	case netip.Addr:
		out.Set(reflect.ValueOf(ToIPv6(v)))
		return
	case netip.Prefix:
		if v.IsValid() && v.Addr().Is4() {
			at, bits := ToIPv6(v.Addr()), v.Bits()
			if bits > 0 {
				bits += 96
			}
			switch {
			case v.Bits() == 1: // a half of the whole address space
				at, bits = netip.AddrFrom16([16]byte{v.Addr().As4()[0]}), 1
			case bits > 0 && v.Addr().IsUnspecified():
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
