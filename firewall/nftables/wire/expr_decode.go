package wire

import (
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// decodeExprs reads a list of expressions, and the count of its counter.
func decodeExprs(b []byte) (exprs []expr, count sets.Count) {
	for item := range Attrs(b) {
		var name string
		var body []byte
		for a := range Attrs(item.Value) {
			switch a.Type {
			case unix.NFTA_EXPR_NAME:
				name = a.Text()
			case unix.NFTA_EXPR_DATA:
				body = a.Value
			}
		}
		if name == "counter" {
			count = decodeCount(body)
		}
		exprs = append(exprs, decodeExpr(name, body))
	}
	return exprs, count
}

func decodeCount(b []byte) (c sets.Count) {
	for a := range Attrs(b) {
		switch a.Type {
		case unix.NFTA_COUNTER_BYTES:
			c.Bytes = a.u64()
		case unix.NFTA_COUNTER_PACKETS:
			c.Packets = a.u64()
		}
	}
	return c
}

// values are the attributes of an expression by their type. An attribute beyond those
// that this package knows makes the expression unknown, because the attribute changes the
// expression's effect.
type values struct {
	by    [16]Attr
	seen  uint32
	bogus bool
}

func collect(b []byte) values {
	var v values
	for a := range Attrs(b) {
		if int(a.Type) >= len(v.by) {
			v.bogus = true
			continue
		}
		v.by[a.Type] = a
		v.seen |= 1 << a.Type
	}
	return v
}

func (v *values) has(typ uint16) bool   { return v.seen&(1<<typ) != 0 }
func (v *values) u32(typ uint16) uint32 { return v.by[typ].U32() }

// only reports whether there are no other attributes than these.
func (v *values) only(types ...uint16) bool {
	rest := v.seen
	for _, t := range types {
		rest &^= 1 << t
	}
	return rest == 0 && !v.bogus
}

// decodeExpr reads the body of an expression. One that it does not know in full is
// unknown.
func decodeExpr(name string, body []byte) expr {
	v := collect(body)
	if e := decodeLoad(name, &v); e != nil {
		return e
	}
	if e := decodeOperation(name, &v); e != nil {
		return e
	}
	if e := decodeStatement(name, &v); e != nil {
		return e
	}
	return Unknown{name}
}

func decodeLoad(name string, v *values) expr {
	switch name {
	case "payload":
		if v.only(unix.NFTA_PAYLOAD_DREG, unix.NFTA_PAYLOAD_BASE, unix.NFTA_PAYLOAD_OFFSET, unix.NFTA_PAYLOAD_LEN) {
			return payloadLoad{v.u32(unix.NFTA_PAYLOAD_DREG), v.u32(unix.NFTA_PAYLOAD_BASE), v.u32(unix.NFTA_PAYLOAD_OFFSET), v.u32(unix.NFTA_PAYLOAD_LEN)}
		}
	case "meta":
		switch {
		case v.only(unix.NFTA_META_DREG, unix.NFTA_META_KEY):
			return metaLoad{v.u32(unix.NFTA_META_DREG), v.u32(unix.NFTA_META_KEY)}
		case v.only(unix.NFTA_META_SREG, unix.NFTA_META_KEY):
			return metaSet{v.u32(unix.NFTA_META_SREG), v.u32(unix.NFTA_META_KEY)}
		}
	case "ct":
		if v.only(unix.NFTA_CT_DREG, unix.NFTA_CT_KEY, unix.NFTA_CT_DIRECTION) {
			return ctLoad{v.u32(unix.NFTA_CT_DREG), v.u32(unix.NFTA_CT_KEY), v.has(unix.NFTA_CT_DIRECTION), v.by[unix.NFTA_CT_DIRECTION].u8()}
		}
	case "xfrm":
		if v.only(nftaXfrmDreg, nftaXfrmKey, nftaXfrmDir, nftaXfrmSpnum) {
			return xfrmLoad{v.u32(nftaXfrmDreg), v.u32(nftaXfrmKey), v.by[nftaXfrmDir].u8(), v.u32(nftaXfrmSpnum)}
		}
	case "rt":
		if v.only(unix.NFTA_RT_DREG, unix.NFTA_RT_KEY) {
			return rtLoad{v.u32(unix.NFTA_RT_DREG), v.u32(unix.NFTA_RT_KEY)}
		}
	case "fib":
		if v.only(unix.NFTA_FIB_DREG, unix.NFTA_FIB_RESULT, unix.NFTA_FIB_FLAGS) {
			return fibLoad{v.u32(unix.NFTA_FIB_DREG), v.u32(unix.NFTA_FIB_RESULT), v.u32(unix.NFTA_FIB_FLAGS)}
		}
	case "exthdr":
		if v.u32(unix.NFTA_EXTHDR_FLAGS) != 0 {
			return nil
		}
		typ, offset, size, op := uint32(v.by[unix.NFTA_EXTHDR_TYPE].u8()), v.u32(unix.NFTA_EXTHDR_OFFSET), v.u32(unix.NFTA_EXTHDR_LEN), v.u32(unix.NFTA_EXTHDR_OP)
		switch common := []uint16{unix.NFTA_EXTHDR_TYPE, unix.NFTA_EXTHDR_OFFSET, unix.NFTA_EXTHDR_LEN, unix.NFTA_EXTHDR_OP, unix.NFTA_EXTHDR_FLAGS}; {
		case v.only(append(common, unix.NFTA_EXTHDR_DREG)...):
			return exthdrLoad{v.u32(unix.NFTA_EXTHDR_DREG), typ, offset, size, op}
		case v.only(append(common, unix.NFTA_EXTHDR_SREG)...):
			return exthdrWrite{v.u32(unix.NFTA_EXTHDR_SREG), typ, offset, size, op}
		}
	}
	return nil
}

func decodeOperation(name string, v *values) expr {
	switch name {
	case "cmp":
		if v.only(unix.NFTA_CMP_SREG, unix.NFTA_CMP_OP, unix.NFTA_CMP_DATA) {
			return compare{v.u32(unix.NFTA_CMP_SREG), v.u32(unix.NFTA_CMP_OP), v.by[unix.NFTA_CMP_DATA].data()}
		}
	case "range":
		if v.only(unix.NFTA_RANGE_SREG, unix.NFTA_RANGE_OP, unix.NFTA_RANGE_FROM_DATA, unix.NFTA_RANGE_TO_DATA) {
			return rangeOf{v.u32(unix.NFTA_RANGE_SREG), v.u32(unix.NFTA_RANGE_OP), v.by[unix.NFTA_RANGE_FROM_DATA].data(), v.by[unix.NFTA_RANGE_TO_DATA].data()}
		}
	case "bitwise":
		// Operation 0 is the one with a mask; the others came with Linux 5.6.
		if v.only(unix.NFTA_BITWISE_SREG, unix.NFTA_BITWISE_DREG, unix.NFTA_BITWISE_LEN, unix.NFTA_BITWISE_MASK, unix.NFTA_BITWISE_XOR, nftaBitwiseOp) && v.u32(nftaBitwiseOp) == 0 {
			return bitwise{v.u32(unix.NFTA_BITWISE_SREG), v.u32(unix.NFTA_BITWISE_DREG), v.u32(unix.NFTA_BITWISE_LEN), v.by[unix.NFTA_BITWISE_MASK].data(), v.by[unix.NFTA_BITWISE_XOR].data()}
		}
	case "byteorder":
		if v.only(unix.NFTA_BYTEORDER_SREG, unix.NFTA_BYTEORDER_DREG, unix.NFTA_BYTEORDER_OP, unix.NFTA_BYTEORDER_LEN, unix.NFTA_BYTEORDER_SIZE) {
			return byteorder{v.u32(unix.NFTA_BYTEORDER_SREG), v.u32(unix.NFTA_BYTEORDER_DREG), v.u32(unix.NFTA_BYTEORDER_OP), v.u32(unix.NFTA_BYTEORDER_LEN), v.u32(unix.NFTA_BYTEORDER_SIZE)}
		}
	case "lookup":
		if v.only(unix.NFTA_LOOKUP_SET, unix.NFTA_LOOKUP_SREG, unix.NFTA_LOOKUP_DREG, unix.NFTA_LOOKUP_FLAGS, unix.NFTA_LOOKUP_SET_ID) && v.u32(unix.NFTA_LOOKUP_DREG) == unix.NFT_REG_VERDICT {
			return Lookup{Set: v.by[unix.NFTA_LOOKUP_SET].Text(), sreg: v.u32(unix.NFTA_LOOKUP_SREG), not: v.u32(unix.NFTA_LOOKUP_FLAGS)&unix.NFT_LOOKUP_F_INV != 0, isMap: v.has(unix.NFTA_LOOKUP_DREG)}
		}
	case "dynset":
		// The expressions are those of the set.
		if v.only(unix.NFTA_DYNSET_SET_NAME, unix.NFTA_DYNSET_SET_ID, unix.NFTA_DYNSET_OP, unix.NFTA_DYNSET_SREG_KEY, unix.NFTA_DYNSET_TIMEOUT, unix.NFTA_DYNSET_FLAGS, unix.NFTA_DYNSET_EXPR, unix.NFTA_DYNSET_PAD) && v.u32(unix.NFTA_DYNSET_FLAGS)&unix.NFT_DYNSET_F_INV == 0 {
			return dynset{v.by[unix.NFTA_DYNSET_SET_NAME].Text(), v.u32(unix.NFTA_DYNSET_SREG_KEY), v.u32(unix.NFTA_DYNSET_OP), v.by[unix.NFTA_DYNSET_TIMEOUT].u64()}
		}
	case "immediate":
		if !v.only(unix.NFTA_IMMEDIATE_DREG, unix.NFTA_IMMEDIATE_DATA) {
			return nil
		}
		if dreg := v.u32(unix.NFTA_IMMEDIATE_DREG); dreg != unix.NFT_REG_VERDICT {
			return immediate{dreg, v.by[unix.NFTA_IMMEDIATE_DATA].data()}
		}
		return decodeVerdict(v.by[unix.NFTA_IMMEDIATE_DATA])
	}
	return nil
}

func decodeVerdict(a Attr) verdict {
	var e verdict
	for d := range Attrs(a.Value) {
		if d.Type != unix.NFTA_DATA_VERDICT {
			continue
		}
		for x := range Attrs(d.Value) {
			switch x.Type {
			case unix.NFTA_VERDICT_CODE:
				e.code = int32(x.U32())
			case unix.NFTA_VERDICT_CHAIN:
				e.chain = x.Text()
			}
		}
	}
	return e
}

func decodeStatement(name string, v *values) expr {
	switch name {
	case "counter":
		return counter{}
	case "log":
		plain := (!v.has(unix.NFTA_LOG_LEVEL) || v.u32(unix.NFTA_LOG_LEVEL) == defaultLogLevel) &&
			v.u32(unix.NFTA_LOG_FLAGS) == 0 && v.u32(unix.NFTA_LOG_SNAPLEN) == 0 && v.by[unix.NFTA_LOG_QTHRESHOLD].u16() == 0
		if plain && !v.bogus {
			return logTo{v.by[unix.NFTA_LOG_PREFIX].Text(), v.has(unix.NFTA_LOG_GROUP), v.by[unix.NFTA_LOG_GROUP].u16()}
		}
	case "limit":
		if !v.bogus {
			return limit{v.by[unix.NFTA_LIMIT_RATE].u64(), v.by[unix.NFTA_LIMIT_UNIT].u64(), v.u32(unix.NFTA_LIMIT_BURST), v.u32(unix.NFTA_LIMIT_TYPE), v.u32(unix.NFTA_LIMIT_FLAGS)}
		}
	case "reject":
		if v.only(unix.NFTA_REJECT_TYPE, unix.NFTA_REJECT_ICMP_CODE) {
			return reject{v.u32(unix.NFTA_REJECT_TYPE), v.by[unix.NFTA_REJECT_ICMP_CODE].u8()}
		}
	case "nat":
		addr := v.u32(unix.NFTA_NAT_REG_ADDR_MIN)
		oneAddress := !v.has(unix.NFTA_NAT_REG_ADDR_MAX) || v.u32(unix.NFTA_NAT_REG_ADDR_MAX) == addr
		known := v.only(unix.NFTA_NAT_TYPE, unix.NFTA_NAT_FAMILY, unix.NFTA_NAT_REG_ADDR_MIN, unix.NFTA_NAT_REG_ADDR_MAX, unix.NFTA_NAT_FLAGS)
		if known && oneAddress && v.u32(unix.NFTA_NAT_FLAGS)&^natRangeMapIPs == 0 {
			return natTo{v.u32(unix.NFTA_NAT_TYPE), v.u32(unix.NFTA_NAT_FAMILY), addr}
		}
	}
	return nil
}
