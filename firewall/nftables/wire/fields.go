package wire

import (
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Datatypes as libnftables numbers them (enum datatypes). The kernel keeps the
// number of a set's type for nft alone.
var datatypes = map[sets.Type]uint32{
	sets.TypeFamily:      2,
	sets.TypeProto:       12,
	sets.TypeMark:        19,
	sets.TypeIndex:       20,
	sets.TypeName:        41,
	sets.TypeLinkKind:    41,
	sets.TypeBool:        39,
	sets.TypeFound:       20,
	sets.TypePacketType:  31,
	sets.TypeEther:       9,
	sets.TypeIPv4:        7,
	sets.TypeIPv6:        8,
	sets.TypePort:        13,
	sets.TypeTCPFlags:    15,
	sets.TypeMSS:         4,
	sets.TypeICMP:        14,
	sets.TypeICMPv6:      29,
	sets.TypeReqid:       4,
	sets.TypeSPI:         4,
	sets.TypeAddrType:    38,
	sets.TypeCtState:     26,
	sets.TypeCtStatus:    28,
	sets.TypeCtDirection: 27,
}

// desc says which field of which header a payload is, in the numbers of
// libnftables (enum proto_desc_id).
type desc struct{ header, field uint32 }

var descs = map[sets.FieldKind]desc{
	sets.ICMPType:   {4, 1},
	sets.UDPSrc:     {6, 1},
	sets.UDPDst:     {6, 2},
	sets.TCPSrc:     {8, 1},
	sets.TCPDst:     {8, 2},
	sets.TCPFlags:   {8, 7},
	sets.SrcPort:    {11, 1},
	sets.DstPort:    {11, 2},
	sets.Proto4:     {12, 9},
	sets.Src4:       {12, 11},
	sets.Dst4:       {12, 12},
	sets.Src6:       {13, 8},
	sets.Dst6:       {13, 9},
	sets.ICMPv6Type: {14, 1},
	sets.EtherDst:   {17, 1},
	sets.EtherSrc:   {17, 2},
}

const (
	linkHeader      = unix.NFT_PAYLOAD_LL_HEADER
	networkHeader   = unix.NFT_PAYLOAD_NETWORK_HEADER
	transportHeader = unix.NFT_PAYLOAD_TRANSPORT_HEADER

	original = 0
	reply    = 1
)

// loads are the expressions that bring the fields to a register, for register 0
// and the outermost SA.
var loads = map[sets.FieldKind]expr{
	sets.NFProto:    metaLoad{key: unix.NFT_META_NFPROTO},
	sets.L4Proto:    metaLoad{key: unix.NFT_META_L4PROTO},
	sets.Mark:       metaLoad{key: unix.NFT_META_MARK},
	sets.InIndex:    metaLoad{key: unix.NFT_META_IIF},
	sets.OutIndex:   metaLoad{key: unix.NFT_META_OIF},
	sets.InName:     metaLoad{key: unix.NFT_META_IIFNAME},
	sets.OutName:    metaLoad{key: unix.NFT_META_OIFNAME},
	sets.InKind:     metaLoad{key: nftMetaInKind},
	sets.OutKind:    metaLoad{key: nftMetaOutKind},
	sets.InType:     metaLoad{key: unix.NFT_META_IIFTYPE},
	sets.SecPath:    metaLoad{key: nftMetaSecpath},
	sets.PacketType: metaLoad{key: unix.NFT_META_PKTTYPE},

	sets.EtherDst:   payloadLoad{base: linkHeader, offset: 0, len: 6},
	sets.EtherSrc:   payloadLoad{base: linkHeader, offset: 6, len: 6},
	sets.Proto4:     payloadLoad{base: networkHeader, offset: 9, len: 1},
	sets.Src4:       payloadLoad{base: networkHeader, offset: 12, len: 4},
	sets.Dst4:       payloadLoad{base: networkHeader, offset: 16, len: 4},
	sets.Src6:       payloadLoad{base: networkHeader, offset: 8, len: 16},
	sets.Dst6:       payloadLoad{base: networkHeader, offset: 24, len: 16},
	sets.SrcPort:    payloadLoad{base: transportHeader, offset: 0, len: 2},
	sets.DstPort:    payloadLoad{base: transportHeader, offset: 2, len: 2},
	sets.TCPSrc:     payloadLoad{base: transportHeader, offset: 0, len: 2},
	sets.TCPDst:     payloadLoad{base: transportHeader, offset: 2, len: 2},
	sets.UDPSrc:     payloadLoad{base: transportHeader, offset: 0, len: 2},
	sets.UDPDst:     payloadLoad{base: transportHeader, offset: 2, len: 2},
	sets.TCPFlags:   payloadLoad{base: transportHeader, offset: 13, len: 1},
	sets.ICMPType:   payloadLoad{base: transportHeader, offset: 0, len: 1},
	sets.ICMPv6Type: payloadLoad{base: transportHeader, offset: 0, len: 1},
	sets.TCPMSS:     exthdrLoad{typ: tcpOptMaxseg, offset: 2, len: 2, op: unix.NFT_EXTHDR_OP_TCPOPT},

	sets.InReqid:      xfrmLoad{key: nftXfrmReqid},
	sets.InSPI:        xfrmLoad{key: nftXfrmSPI},
	sets.InOuterSrc4:  xfrmLoad{key: nftXfrmSaddr4},
	sets.InOuterDst4:  xfrmLoad{key: nftXfrmDaddr4},
	sets.InOuterSrc6:  xfrmLoad{key: nftXfrmSaddr6},
	sets.InOuterDst6:  xfrmLoad{key: nftXfrmDaddr6},
	sets.OutReqid:     xfrmLoad{key: nftXfrmReqid, dir: 1},
	sets.OutSPI:       xfrmLoad{key: nftXfrmSPI, dir: 1},
	sets.OutOuterSrc4: xfrmLoad{key: nftXfrmSaddr4, dir: 1},
	sets.OutOuterDst4: xfrmLoad{key: nftXfrmDaddr4, dir: 1},
	sets.OutOuterSrc6: xfrmLoad{key: nftXfrmSaddr6, dir: 1},
	sets.OutOuterDst6: xfrmLoad{key: nftXfrmDaddr6, dir: 1},

	sets.RouteIPsec:   rtLoad{key: nftRtXfrm},
	sets.FibSrcInput:  fibLoad{result: unix.NFT_FIB_RESULT_OIF, flags: unix.NFTA_FIB_F_SADDR | unix.NFTA_FIB_F_IIF | unix.NFTA_FIB_F_PRESENT},
	sets.FibDstOutput: fibLoad{result: unix.NFT_FIB_RESULT_OIF, flags: unix.NFTA_FIB_F_DADDR | unix.NFTA_FIB_F_PRESENT},
	sets.FibSrcType:   fibLoad{result: unix.NFT_FIB_RESULT_ADDRTYPE, flags: unix.NFTA_FIB_F_SADDR},
	sets.FibDstType:   fibLoad{result: unix.NFT_FIB_RESULT_ADDRTYPE, flags: unix.NFTA_FIB_F_DADDR},

	sets.CtState:        ctLoad{key: unix.NFT_CT_STATE},
	sets.CtStatus:       ctLoad{key: unix.NFT_CT_STATUS},
	sets.CtDirection:    ctLoad{key: unix.NFT_CT_DIRECTION},
	sets.CtMark:         ctLoad{key: unix.NFT_CT_MARK},
	sets.CtProto:        ctLoad{key: unix.NFT_CT_PROTOCOL},
	sets.CtOrigSrc4:     ctLoad{key: unix.NFT_CT_SRC_IP, hasDir: true, dir: original},
	sets.CtOrigDst4:     ctLoad{key: unix.NFT_CT_DST_IP, hasDir: true, dir: original},
	sets.CtOrigSrc6:     ctLoad{key: unix.NFT_CT_SRC_IP6, hasDir: true, dir: original},
	sets.CtOrigDst6:     ctLoad{key: unix.NFT_CT_DST_IP6, hasDir: true, dir: original},
	sets.CtOrigSrcPort:  ctLoad{key: unix.NFT_CT_PROTO_SRC, hasDir: true, dir: original},
	sets.CtOrigDstPort:  ctLoad{key: unix.NFT_CT_PROTO_DST, hasDir: true, dir: original},
	sets.CtReplySrc4:    ctLoad{key: unix.NFT_CT_SRC_IP, hasDir: true, dir: reply},
	sets.CtReplyDst4:    ctLoad{key: unix.NFT_CT_DST_IP, hasDir: true, dir: reply},
	sets.CtReplySrc6:    ctLoad{key: unix.NFT_CT_SRC_IP6, hasDir: true, dir: reply},
	sets.CtReplyDst6:    ctLoad{key: unix.NFT_CT_DST_IP6, hasDir: true, dir: reply},
	sets.CtReplySrcPort: ctLoad{key: unix.NFT_CT_PROTO_SRC, hasDir: true, dir: reply},
	sets.CtReplyDstPort: ctLoad{key: unix.NFT_CT_PROTO_DST, hasDir: true, dir: reply},
}

// kinds are the fields by their loads. Ports are those of any protocol: which one
// it is follows from the matches before.
var kinds = func() map[expr]sets.FieldKind {
	m := make(map[expr]sets.FieldKind, len(loads))
	for k, e := range loads {
		switch k {
		case sets.TCPSrc, sets.TCPDst, sets.UDPSrc, sets.UDPDst, sets.ICMPType, sets.ICMPv6Type:
		default:
			m[e] = k
		}
	}
	return m
}()

// load returns the expression that brings a field to the register at a word.
func load(f sets.Field, word int) expr {
	reg := register(word)
	switch e := loads[f.Kind].(type) {
	case metaLoad:
		e.dreg = reg
		return e
	case payloadLoad:
		e.dreg = reg
		return e
	case exthdrLoad:
		e.dreg = reg
		return e
	case xfrmLoad:
		e.dreg, e.spnum = reg, uint32(f.Depth)
		return e
	case rtLoad:
		e.dreg = reg
		return e
	case fibLoad:
		e.dreg = reg
		return e
	case ctLoad:
		e.dreg = reg
		return e
	}
	return Unknown{f.String()}
}

// loaded returns the field that an expression brings to the register at a word.
// A load of the first bytes of an address has the rest cleared.
func loaded(e expr, word int, proto xfrm.Proto) (f sets.Field, ok bool) {
	reg := register(word)
	var is uint32
	switch x := e.(type) {
	case metaLoad:
		is, x.dreg = x.dreg, 0
		e = x
	case payloadLoad:
		is, x.dreg = x.dreg, 0
		if f, ok := address(x); ok && is == reg {
			return f, true
		}
		if x == (payloadLoad{base: transportHeader, offset: 0, len: 1}) && is == reg {
			switch proto {
			case xfrm.ICMP:
				return sets.F(sets.ICMPType), true
			case xfrm.ICMPv6:
				return sets.F(sets.ICMPv6Type), true
			}
		}
		e = x
	case exthdrLoad:
		is, x.dreg = x.dreg, 0
		e = x
	case xfrmLoad:
		f.Depth = uint8(x.spnum)
		if uint32(f.Depth) != x.spnum {
			return f, false
		}
		is, x.dreg, x.spnum = x.dreg, 0, 0
		e = x
	case rtLoad:
		is, x.dreg = x.dreg, 0
		e = x
	case fibLoad:
		is, x.dreg = x.dreg, 0
		e = x
	case ctLoad:
		is, x.dreg = x.dreg, 0
		e = x
	default:
		return f, false
	}
	f.Kind, ok = kinds[e]
	return f, ok && is == reg
}

// address returns the address field that starts with the bytes of a payload.
func address(e payloadLoad) (sets.Field, bool) {
	for _, k := range []sets.FieldKind{sets.Src4, sets.Dst4, sets.Src6, sets.Dst6} {
		whole := loads[k].(payloadLoad)
		if e.base == whole.base && e.offset == whole.offset && e.len >= 1 && e.len <= whole.len {
			return sets.Field{Kind: k, Clear: uint8(whole.len-e.len) * 8}, true
		}
	}
	return sets.Field{}, false
}
