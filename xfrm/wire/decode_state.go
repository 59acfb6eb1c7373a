package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Offsets in struct xfrm_usersa_info.
const (
	stateDst       = 56 // struct xfrm_id: address, SPI, protocol
	stateSPI       = 72
	stateProto     = 76
	stateSrc       = 80
	stateHardBytes = 104
	stateHardPkts  = 120
	stateHardAdd   = 136
	stateHardUse   = 152
	stateBytes     = 160
	statePackets   = 168
	stateAddTime   = 176
	stateUseTime   = 184
	stateStats     = 192
	stateReqid     = 208
	stateFamily    = 212
	stateMode      = 214
	stateReplay    = 215
	stateFlags     = 216
)

// unlimited is XFRM_INF, the kernel's value for no limit.
const unlimited = ^uint64(0)

// state fills x, which must be zero, from a struct xfrm_usersa_info and the
// attributes behind it.
func (d *Decoder) state(x *xfrm.State, b []byte) error {
	if len(b) < stateSize {
		return errShort
	}
	f, err := family(b[stateFamily:])
	if err != nil {
		return err
	}
	x.Family = f
	x.Dst = addr(f, b[stateDst:stateDst+16])
	x.Src = addr(f, b[stateSrc:stateSrc+16])
	x.SPI = binary.BigEndian.Uint32(b[stateSPI:])
	x.Proto = xfrm.Proto(b[stateProto])
	if x.Mode, err = mode(b[stateMode]); err != nil {
		return err
	}
	x.Reqid = native.Uint32(b[stateReqid:])
	x.Flags = b[stateFlags]
	x.ESN = x.Flags&flagESN != 0
	x.ReplayWindow = uint32(b[stateReplay])
	x.Bytes = native.Uint64(b[stateBytes:])
	x.Packets = native.Uint64(b[statePackets:])
	x.AddTime = native.Uint64(b[stateAddTime:])
	x.UseTime = native.Uint64(b[stateUseTime:])
	x.Lifetime = xfrm.Lifetime{
		Bytes:   limit(b[stateHardBytes:]),
		Packets: limit(b[stateHardPkts:]),
		Add:     limit(b[stateHardAdd:]),
		Use:     limit(b[stateHardUse:]),
	}
	x.Errors = xfrm.Errors{
		ReplayWindow: native.Uint32(b[stateStats:]),
		Replay:       native.Uint32(b[stateStats+4:]),
		Integrity:    native.Uint32(b[stateStats+8:]),
	}
	// The kernel does not look at a state's selector that has no family.
	if native.Uint16(b[40:]) != 0 {
		if err := selector(&x.Selector, b[:selectorSize]); err != nil {
			return err
		}
	}
	return d.stateAttrs(x, b[stateSize:])
}

// limit reads one of the lifetimes, where both XFRM_INF and zero mean none.
func limit(b []byte) uint64 {
	if v := native.Uint64(b); v != unlimited {
		return v
	}
	return 0
}

func (d *Decoder) stateAttrs(x *xfrm.State, b []byte) error {
	setMask := false
	err := d.attrs(b, func(typ uint16, v []byte) error {
		if len(v) < stateAttrSize(typ) {
			return errAttr
		}
		var err error
		switch typ {
		case attrAlgAuth:
			x.Algs.Auth, err = d.name(v)
		case attrAlgAuthTrunc:
			x.Algs.Auth, err = d.name(v)
			x.Algs.ICVBits = icvBits(v)
		case attrAlgCrypt:
			x.Algs.Crypt, err = d.name(v)
		case attrAlgAEAD:
			x.Algs.AEAD, err = d.name(v)
			x.Algs.ICVBits = icvBits(v)
		case attrAlgComp:
			x.Algs.Comp, err = d.name(v)
		case attrEncap:
			x.Encap = xfrm.Encap{
				Type:  native.Uint16(v),
				SPort: binary.BigEndian.Uint16(v[2:]),
				DPort: binary.BigEndian.Uint16(v[4:]),
			}
		case attrMark:
			x.Mark = mark(v)
		case attrSetMark:
			x.SetMark.Value = native.Uint32(v)
		case attrSetMarkMask:
			x.SetMark.Mask = native.Uint32(v)
			setMask = true
		case attrIfID:
			x.IfID = native.Uint32(v)
		case attrOffload:
			x.Offload, err = offload(v)
		case attrSADir:
			x.Dir = xfrm.SADir(v[0])
			if x.Dir > xfrm.Outbound {
				err = fmt.Errorf("direction %d is not known", v[0])
			}
		case attrCPU:
			// UINT_MAX is the kernel's "any", and becomes 0 here.
			x.CPU = native.Uint32(v) + 1
		case attrExtraFlags:
			x.ExtraFlags = native.Uint32(v)
		case attrTFCPad:
			x.TFCPad = native.Uint32(v)
		case attrReplayESN:
			x.ReplayWindow = native.Uint32(v[20:])
		}
		return err
	})
	// Kernels before 4.19 have the value alone, and set all bits by it.
	if x.SetMark.Value != 0 && !setMask {
		x.SetMark.Mask = ^uint32(0)
	}
	return err
}

// icvBits reads alg_trunc_len or alg_icv_len, which follow the length of the
// key. A value that no algorithm has is taken as unknown.
func icvBits(v []byte) uint16 {
	if n := native.Uint32(v[algSize:]); n <= 1<<16-1 {
		return uint16(n)
	}
	return 0
}

// stateAttrSize is the least length of the attributes that a state is read from.
func stateAttrSize(typ uint16) int {
	switch typ {
	case attrAlgAuth, attrAlgCrypt, attrAlgComp:
		return algSize
	case attrAlgAuthTrunc, attrAlgAEAD:
		return algTruncSize
	case attrEncap, attrMark, attrOffload:
		return 8
	case attrSetMark, attrSetMarkMask, attrIfID, attrCPU, attrExtraFlags, attrTFCPad:
		return 4
	case attrSADir:
		return 1
	case attrReplayESN:
		return replayESNSize
	}
	return 0
}

// stateName names the state of a message that could not be decoded, as far as
// the message goes.
func stateName(b []byte) string {
	if len(b) < stateSize {
		return fmt.Sprintf("state message of %d bytes", len(b))
	}
	spi := binary.BigEndian.Uint32(b[stateSPI:])
	f, err := family(b[stateFamily:])
	if err != nil {
		return fmt.Sprintf("state spi %#x", spi)
	}
	return fmt.Sprintf("state %s spi %#x dst %s", xfrm.Proto(b[stateProto]), spi, addr(f, b[stateDst:stateDst+16]))
}
