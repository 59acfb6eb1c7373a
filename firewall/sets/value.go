package sets

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Type is the type of a field's values.
type Type uint8

// The types.
const (
	_              Type = iota
	TypeFamily          // NFPROTO_*
	TypeProto           // IP protocol
	TypeMark            // fwmark
	TypeIndex           // interface index
	TypeName            // interface name
	TypeLinkKind        // kind of a link, such as "vrf"
	TypeBool            // exists, missing
	TypeFound           // the same, of a route
	TypePacketType      // PACKET_*
	TypeEther
	TypeIPv4
	TypeIPv6
	TypePort
	TypeTCPFlags
	TypeMSS
	TypeICMP
	TypeICMPv6
	TypeReqid
	TypeSPI
	TypeAddrType // RTN_*
	TypeCtState
	TypeCtStatus
	TypeCtDirection
	typeLinkType // ARPHRD_*
	numTypes
)

type typeInfo struct {
	size int
	// host is true if the kernel keeps the value in a register in host byte order.
	host bool
	// names are the words of nft for values.
	names []valueName
	// bits is true if a value is a set of named bits.
	bits bool
	hex  bool
}

type valueName struct {
	value uint64
	name  string
}

var types = [numTypes]typeInfo{
	TypeFamily:     {size: 1, names: []valueName{{2, "ipv4"}, {10, "ipv6"}}},
	TypeProto:      {size: 1, names: protoNames},
	TypeMark:       {size: 4, host: true, hex: true},
	TypeIndex:      {size: 4, host: true, names: []valueName{{1, "lo"}}},
	TypeName:       {size: 16},
	TypeLinkKind:   {size: 16},
	TypeBool:       {size: 1, names: existence},
	TypeFound:      {size: 4, host: true, names: existence},
	TypePacketType: {size: 1, names: []valueName{{0, "host"}, {1, "broadcast"}, {2, "multicast"}, {3, "other"}}},
	TypeEther:      {size: 6},
	TypeIPv4:       {size: 4},
	TypeIPv6:       {size: 16},
	TypePort:       {size: 2},
	TypeTCPFlags:   {size: 1, bits: true, names: []valueName{{1, "fin"}, {2, "syn"}, {4, "rst"}, {8, "psh"}, {16, "ack"}, {32, "urg"}, {64, "ecn"}, {128, "cwr"}}},
	TypeMSS:        {size: 2},
	TypeICMP:       {size: 1},
	TypeICMPv6:     {size: 1},
	TypeReqid:      {size: 4, host: true},
	TypeSPI:        {size: 4, hex: true},
	TypeAddrType:   {size: 4, host: true, names: []valueName{{1, "unicast"}, {2, "local"}, {3, "broadcast"}, {5, "multicast"}, {6, "blackhole"}, {7, "unreachable"}, {8, "prohibit"}}},
	TypeCtState:    {size: 4, host: true, bits: true, names: []valueName{{1, "invalid"}, {2, "established"}, {4, "related"}, {8, "new"}, {64, "untracked"}}},
	TypeCtStatus:   {size: 4, host: true, bits: true, names: []valueName{{1, "expected"}, {2, "seen-reply"}, {4, "assured"}, {8, "confirmed"}, {16, "snat"}, {32, "dnat"}, {512, "dying"}}},
	// As one byte a direction has no byte order.
	TypeCtDirection: {size: 1, names: []valueName{{0, "original"}, {1, "reply"}}},
	typeLinkType:    {size: 2, host: true, names: []valueName{{1, "ether"}}},
}

var existence = []valueName{{1, "exists"}, {0, "missing"}}

var protoNames = []valueName{
	{uint64(xfrm.ICMP), "icmp"}, {uint64(xfrm.TCP), "tcp"}, {uint64(xfrm.UDP), "udp"}, {uint64(xfrm.ESP), "esp"},
	{uint64(xfrm.AH), "ah"}, {uint64(xfrm.ICMPv6), "icmpv6"}, {uint64(xfrm.Comp), "comp"}, {uint64(xfrm.SCTP), "sctp"},
}

// Bits of connection states and statuses, with the kernel's values
// (NF_CT_STATE_BIT, IPS_*).
const (
	Established uint64 = 2
	Related     uint64 = 4
	New         uint64 = 8
	Untracked   uint64 = 64
	SNATed      uint64 = 16
	DNATed      uint64 = 32
)

// Local is the kernel's type of own addresses (RTN_LOCAL).
const Local uint64 = 2

// Size returns the number of bytes of a value.
func (t Type) Size() int {
	if t >= numTypes {
		return 0
	}
	return types[t].size
}

// HostOrder reports whether the kernel holds the value in host byte order, where
// it does not want to compare it with a range.
func (t Type) HostOrder() bool { return t < numTypes && types[t].host }

// Value is a value of a field, in network byte order. Values compare with ==.
type Value struct {
	bytes [16]byte
	size  uint8
}

// Number returns a value of a type that is a number.
func Number(t Type, n uint64) Value {
	var v Value
	v.size = uint8(t.Size())
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	if v.size <= 8 {
		copy(v.bytes[:], b[8-v.size:])
	}
	return v
}

// Addr returns an address as a value.
func Addr(a netip.Addr) Value { return Bytes(a.AsSlice()) }

// Name returns the name of an interface or of a kind of links as a value.
func Name(name string) Value {
	v := Value{size: 16}
	copy(v.bytes[:15], name)
	return v
}

// NamePrefix returns a value that matches all names which begin so.
func NamePrefix(prefix string) Value { return Bytes([]byte(prefix)) }

// Ether returns a link-layer address as a value.
func Ether(a [6]byte) Value { return Bytes(a[:]) }

// Bytes returns a value of bytes in network order, of which it takes at most 16.
func Bytes(b []byte) Value {
	var v Value
	v.size = uint8(copy(v.bytes[:], b))
	return v
}

// Len returns the number of bytes.
func (v Value) Len() int { return int(v.size) }

// Append appends the bytes in network order.
func (v Value) Append(b []byte) []byte { return append(b, v.bytes[:v.size]...) }

// Uint returns the number that the first eight bytes make.
func (v Value) Uint() uint64 {
	var n uint64
	for _, b := range v.bytes[:min(v.size, 8)] {
		n = n<<8 | uint64(b)
	}
	return n
}

// Compare orders values by their bytes.
func (v Value) Compare(o Value) int { return bytes.Compare(v.Append(nil), o.Append(nil)) }

// Equal reports whether two values are the same.
func (v Value) Equal(o Value) bool { return v == o }

// String returns the bytes in hexadecimal; without its field nothing else is
// known of a value.
func (v Value) String() string { return "0x" + hex.EncodeToString(v.bytes[:v.size]) }

// text returns the value in the words of nft.
func (v Value) text(t Type) string {
	switch t {
	case TypeIPv4, TypeIPv6:
		if a, ok := netip.AddrFromSlice(v.bytes[:v.size]); ok {
			return a.String()
		}
	case TypeName, TypeLinkKind:
		name, _, ended := strings.Cut(string(v.bytes[:v.size]), "\x00")
		if !ended && v.size < 16 {
			name += "*"
		}
		return `"` + name + `"`
	case TypeEther:
		return net.HardwareAddr(v.bytes[:v.size]).String()
	}
	if t >= numTypes || int(v.size) != types[t].size || v.size > 8 {
		return v.String()
	}
	info, n := &types[t], v.Uint()
	if info.bits {
		return bitNames(info.names, n, "|")
	}
	for _, name := range info.names {
		if name.value == n {
			return name.name
		}
	}
	if info.hex {
		return fmt.Sprintf("0x%08x", n)
	}
	return strconv.FormatUint(n, 10)
}

// bitNames names the bits of a number; bits without a name are written in
// hexadecimal.
func bitNames(names []valueName, n uint64, between string) string {
	var words []string
	for _, name := range names {
		if n&name.value != 0 {
			words = append(words, name.name)
			n &^= name.value
		}
	}
	if n != 0 || len(words) == 0 {
		words = append(words, fmt.Sprintf("%#x", n))
	}
	return strings.Join(words, between)
}

// maskOf returns the mask of the bits that a field keeps.
func maskOf(f Field) Value {
	v := Value{size: uint8(f.Type().Size())}
	bits := int(v.size)*8 - int(f.Clear)
	for i := range v.bytes[:v.size] {
		switch {
		case bits >= 8:
			v.bytes[i] = 0xff
		case bits > 0:
			v.bytes[i] = ^byte(0xff >> bits)
		}
		bits -= 8
	}
	return v
}

// Mask returns the mask of the bits that the field keeps.
func (f Field) Mask() Value { return maskOf(f) }

func replaceDepth(words, depth string) string { return strings.Replace(words, "%d", depth, 1) }

func nameOf(names []string, v uint8) string {
	if int(v) < len(names) {
		return names[v]
	}
	return strconv.Itoa(int(v))
}
