package wire_test

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"runtime"
)

// The types here mirror include/uapi/linux/xfrm.h with every hole spelled out,
// so that binary.Write gives the kernel's bytes without the decoder's offsets.

type wireSelector struct {
	Daddr, Saddr     [16]byte
	Dport, DportMask [2]byte
	Sport, SportMask [2]byte
	Family           uint16
	PrefixD, PrefixS uint8
	Proto            uint8
	_                [3]byte
	Ifindex          int32
	User             uint32
}

type wireID struct {
	Daddr [16]byte
	SPI   [4]byte
	Proto uint8
	_     [3]byte
}

type wireLifetime struct {
	SoftBytes, HardBytes, SoftPackets, HardPackets uint64
	SoftAdd, HardAdd, SoftUse, HardUse             uint64
}

type wireCurrent struct{ Bytes, Packets, AddTime, UseTime uint64 }

// wireState is struct xfrm_usersa_info.
type wireState struct {
	Sel                         wireSelector
	ID                          wireID
	Saddr                       [16]byte
	Lft                         wireLifetime
	Cur                         wireCurrent
	ReplayWindow, Replay, Integ uint32
	Seq, Reqid                  uint32
	Family                      uint16
	Mode, Window, Flags         uint8
	_                           [7]byte
}

// wirePolicy is struct xfrm_userpolicy_info.
type wirePolicy struct {
	Sel                       wireSelector
	Lft                       wireLifetime
	Cur                       wireCurrent
	Priority, Index           uint32
	Dir, Action, Flags, Share uint8
	_                         [4]byte
}

// wireTemplate is struct xfrm_user_tmpl.
type wireTemplate struct {
	ID                     wireID
	Family                 uint16
	_                      [2]byte
	Saddr                  [16]byte
	Reqid                  uint32
	Mode, Share, Optional  uint8
	_                      uint8
	Aalgos, Ealgos, Calgos uint32
}

// message renders a struct and the attributes behind it. The struct's last four
// bytes are padding that 386 does not have.
func message(info any, attributes ...[]byte) []byte {
	b := raw(info)
	if runtime.GOARCH == "386" {
		b = b[:len(b)-4]
	}
	return append(b, bytes.Join(attributes, nil)...)
}

func raw(v any) []byte {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, v); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// attribute renders one attribute of the values' bytes.
func attribute(typ uint16, values ...any) []byte {
	var v []byte
	for _, x := range values {
		if s, ok := x.(string); ok {
			v = append(v, s...)
		} else {
			v = append(v, raw(x)...)
		}
	}
	b := append(raw([2]uint16{uint16(4 + len(v)), typ}), v...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// algName is an alg_name field.
func algName(name string) [64]byte {
	var b [64]byte
	copy(b[:], name)
	return b
}

// address is an xfrm_address_t.
func address(s string) (b [16]byte) {
	copy(b[:], netip.MustParseAddr(s).AsSlice())
	return b
}

func be16(v uint16) (b [2]byte) { binary.BigEndian.PutUint16(b[:], v); return b }
func be32(v uint32) (b [4]byte) { binary.BigEndian.PutUint32(b[:], v); return b }

// selectorOf makes a selector for all protocols. The prefixes may be unmasked.
func selectorOf(src, dst string) wireSelector {
	s, d := netip.MustParsePrefix(src), netip.MustParsePrefix(dst)
	w := wireSelector{Family: 2, PrefixS: uint8(s.Bits()), PrefixD: uint8(d.Bits())}
	if d.Addr().BitLen() == 128 {
		w.Family = 10
	}
	copy(w.Saddr[:], s.Addr().AsSlice())
	copy(w.Daddr[:], d.Addr().AsSlice())
	return w
}

const infinity = ^uint64(0)

// espState is an ESP tunnel state 192.0.2.1 -> 198.51.100.2, without attributes.
func espState() wireState {
	return wireState{
		Sel:    selectorOf("0.0.0.0/0", "0.0.0.0/0"),
		ID:     wireID{Daddr: address("198.51.100.2"), SPI: be32(0xc0000001), Proto: 50},
		Saddr:  address("192.0.2.1"),
		Lft:    wireLifetime{infinity, infinity, infinity, infinity, 0, 0, 0, 0},
		Reqid:  11,
		Family: 2,
		Mode:   1,
	}
}

// inPolicy is an inbound policy 10.1.0.0/24 -> 10.2.0.0/24, without templates.
func inPolicy() wirePolicy {
	return wirePolicy{Sel: selectorOf("10.1.0.0/24", "10.2.0.0/24"), Priority: 375423, Index: 8}
}

// tunnelTemplate is the template that espState satisfies.
func tunnelTemplate() wireTemplate {
	return wireTemplate{
		ID:     wireID{Daddr: address("198.51.100.2"), Proto: 50},
		Family: 2,
		Saddr:  address("192.0.2.1"),
		Reqid:  11,
		Mode:   1,
		Aalgos: ^uint32(0), Ealgos: ^uint32(0), Calgos: ^uint32(0),
	}
}

const (
	newSA     = 0x10
	newPolicy = 0x13
	updPolicy = 0x19
	updSA     = 0x1a
)
