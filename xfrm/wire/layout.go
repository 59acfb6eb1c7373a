package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The numbers of include/uapi/linux/xfrm.h that the decoder needs. They are
// written here as the package imports nothing beyond the standard library, and
// because no library knows them all (the newest are of Linux 7.2).

// Message types (XFRM_MSG_*).
const (
	msgNewSA       = 0x10
	msgDelSA       = 0x11
	msgNewPolicy   = 0x13
	msgDelPolicy   = 0x14
	msgAcquire     = 0x17
	msgExpire      = 0x18
	msgUpdPolicy   = 0x19
	msgUpdSA       = 0x1a
	msgPolExpire   = 0x1b
	msgFlushSA     = 0x1c
	msgFlushPolicy = 0x1d
	msgNewAE       = 0x1e
	msgReport      = 0x20
	msgMigrate     = 0x21
	msgMapping     = 0x26
	msgGetDefault  = 0x28
	msgMigrateSA   = 0x29 // XFRM_MSG_MIGRATE_STATE
)

// Attribute types (XFRMA_*).
const (
	attrAlgAuth      = 1
	attrAlgCrypt     = 2
	attrAlgComp      = 3
	attrEncap        = 4
	attrTemplates    = 5
	attrPolicy       = 7
	attrPolicyType   = 16
	attrAlgAEAD      = 18
	attrAlgAuthTrunc = 20
	attrMark         = 21
	attrTFCPad       = 22
	attrReplayESN    = 23
	attrExtraFlags   = 24
	attrOffload      = 28
	attrSetMark      = 29
	attrSetMarkMask  = 30
	attrIfID         = 31
	attrSADir        = 33
	attrCPU          = 35
	lastAttr         = 41 // XFRMA_IPTFS_PKT_SIZE, the last of Linux 7.2
)

// Sizes of the kernel's structs where they do not depend on the architecture;
// stateSize and policySize do.
const (
	selectorSize  = 56
	templateSize  = 64
	algNameSize   = xfrm.AlgorithmSize
	algSize       = algNameSize + 4 // struct xfrm_algo without its key
	algTruncSize  = algNameSize + 8 // struct xfrm_algo_auth and _aead, likewise
	encapSize     = 8               // the part of struct xfrm_encap_tmpl that is read
	replayESNSize = 24
)

const (
	flagESN       = 128 // XFRM_STATE_ESN
	attrTypeMask  = 0x3fff
	attrHeaderLen = 4
)

var native = binary.NativeEndian

var (
	errShort = errors.New("message is shorter than its struct")
	errAttr  = errors.New("attribute is cut short")
)

// attrs calls each with every attribute in b, in order. The value is a part of
// b. It ends with the first error.
func (d *Decoder) attrs(b []byte, each func(typ uint16, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < attrHeaderLen {
			return errAttr
		}
		size := int(native.Uint16(b))
		if size < attrHeaderLen || size > len(b) {
			return errAttr
		}
		typ := native.Uint16(b[2:]) & attrTypeMask
		if typ > lastAttr && d.newer == 0 {
			d.newer = typ
		}
		if err := each(typ, b[attrHeaderLen:size]); err != nil {
			return fmt.Errorf("attribute %d: %w", typ, err)
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return nil
}

// addr reads an xfrm_address_t of the given family. The family always comes
// from the message: an IPv6 address may well end in twelve zero bytes.
func addr(f xfrm.Family, b []byte) netip.Addr {
	if f == xfrm.IPv6 {
		return netip.AddrFrom16([16]byte(b))
	}
	return netip.AddrFrom4([4]byte(b))
}

// family reads an address family, which must be one that XFRM knows.
func family(b []byte) (xfrm.Family, error) {
	switch f := native.Uint16(b); f {
	case uint16(xfrm.IPv4), uint16(xfrm.IPv6):
		return xfrm.Family(f), nil
	default:
		return 0, fmt.Errorf("address family %d is neither IPv4 nor IPv6", f)
	}
}

// prefix reads an address with its length, masked: the kernel keeps host bits
// that an administrator gave, and ignores them in look-ups.
func prefix(f xfrm.Family, b []byte, length uint8) (netip.Prefix, error) {
	p, err := addr(f, b).Prefix(int(length))
	if err != nil {
		return p, fmt.Errorf("prefix length %d is too long for %s", length, f)
	}
	return p, nil
}

// selector reads a struct xfrm_selector into s.
func selector(s *xfrm.Selector, b []byte) error {
	f, err := family(b[40:])
	if err != nil {
		return fmt.Errorf("selector: %w", err)
	}
	s.Family = f
	if s.Dst, err = prefix(f, b[0:16], b[42]); err != nil {
		return fmt.Errorf("selector's destination: %w", err)
	}
	if s.Src, err = prefix(f, b[16:32], b[43]); err != nil {
		return fmt.Errorf("selector's source: %w", err)
	}
	s.DPort = port(b[32:])
	s.SPort = port(b[36:])
	s.Proto = xfrm.Proto(b[44])
	s.Ifindex = int32(native.Uint32(b[48:]))
	if s.Ifindex < 0 {
		return fmt.Errorf("selector's interface index %d is negative", s.Ifindex)
	}
	return nil
}

// port reads a port and its mask; bits outside of the mask match nothing and go.
func port(b []byte) xfrm.PortMatch {
	mask := binary.BigEndian.Uint16(b[2:])
	return xfrm.PortMatch{Port: binary.BigEndian.Uint16(b) & mask, Mask: mask}
}

// mode reads a mode. How a newer one encapsulates is not known.
func mode(b byte) (xfrm.Mode, error) {
	if !xfrm.Mode(b).Known() {
		return 0, fmt.Errorf("mode %d is not known", b)
	}
	return xfrm.Mode(b), nil
}

// mark reads a struct xfrm_mark.
func mark(b []byte) xfrm.Mark { return xfrm.Mark{Value: native.Uint32(b), Mask: native.Uint32(b[4:])} }

// offload reads a struct xfrm_user_offload.
func offload(b []byte) (xfrm.Offload, error) {
	o := xfrm.Offload{Ifindex: int32(native.Uint32(b)), Flags: b[4]}
	if o.Ifindex < 0 {
		return o, fmt.Errorf("interface index %d is negative", o.Ifindex)
	}
	return o, nil
}
