package wire

import (
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// expressions appends a rule's expressions as a list. A counter begins with the count that
// count says.
func (w *Writer) expressions(exprs []expr, count sets.Count, ids *SetIDs) {
	list := w.Nest(unix.NFTA_RULE_EXPRESSIONS)
	for _, e := range exprs {
		item := w.Nest(unix.NFTA_LIST_ELEM)
		w.Text(unix.NFTA_EXPR_NAME, e.name())
		body := w.Nest(unix.NFTA_EXPR_DATA)
		if _, ok := e.(counter); ok {
			w.count(count)
		} else {
			e.encode(w, ids)
		}
		w.End(body)
		w.End(item)
	}
	w.End(list)
}

func (w *Writer) count(c sets.Count) {
	w.U64(unix.NFTA_COUNTER_BYTES, c.Bytes)
	w.U64(unix.NFTA_COUNTER_PACKETS, c.Packets)
}

// counterExpr appends the counter of a set or of an element.
func (w *Writer) counterExpr(typ uint16, c sets.Count) {
	item := w.Nest(typ)
	w.Text(unix.NFTA_EXPR_NAME, "counter")
	body := w.Nest(unix.NFTA_EXPR_DATA)
	w.count(c)
	w.End(body)
	w.End(item)
}

func (payloadLoad) name() string { return "payload" }
func (metaLoad) name() string    { return "meta" }
func (metaSet) name() string     { return "meta" }
func (ctLoad) name() string      { return "ct" }
func (xfrmLoad) name() string    { return "xfrm" }
func (rtLoad) name() string      { return "rt" }
func (fibLoad) name() string     { return "fib" }
func (exthdrLoad) name() string  { return "exthdr" }
func (exthdrWrite) name() string { return "exthdr" }
func (compare) name() string     { return "cmp" }
func (rangeOf) name() string     { return "range" }
func (bitwise) name() string     { return "bitwise" }
func (byteorder) name() string   { return "byteorder" }
func (Lookup) name() string      { return "lookup" }
func (dynset) name() string      { return "dynset" }
func (immediate) name() string   { return "immediate" }
func (verdict) name() string     { return "immediate" }
func (counter) name() string     { return "counter" }
func (logTo) name() string       { return "log" }
func (limit) name() string       { return "limit" }
func (reject) name() string      { return "reject" }
func (natTo) name() string       { return "nat" }
func (u Unknown) name() string   { return u.expression }

func (e payloadLoad) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_PAYLOAD_DREG, e.dreg)
	w.U32(unix.NFTA_PAYLOAD_BASE, e.base)
	w.U32(unix.NFTA_PAYLOAD_OFFSET, e.offset)
	w.U32(unix.NFTA_PAYLOAD_LEN, e.len)
}

func (e metaLoad) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_META_KEY, e.key)
	w.U32(unix.NFTA_META_DREG, e.dreg)
}

func (e metaSet) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_META_KEY, e.key)
	w.U32(unix.NFTA_META_SREG, e.sreg)
}

func (e ctLoad) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_CT_DREG, e.dreg)
	w.U32(unix.NFTA_CT_KEY, e.key)
	if e.hasDir {
		w.u8(unix.NFTA_CT_DIRECTION, e.dir)
	}
}

func (e xfrmLoad) encode(w *Writer, _ *SetIDs) {
	w.U32(nftaXfrmDreg, e.dreg)
	w.U32(nftaXfrmKey, e.key)
	w.u8(nftaXfrmDir, e.dir)
	w.U32(nftaXfrmSpnum, e.spnum)
}

func (e rtLoad) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_RT_KEY, e.key)
	w.U32(unix.NFTA_RT_DREG, e.dreg)
}

func (e fibLoad) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_FIB_DREG, e.dreg)
	w.U32(unix.NFTA_FIB_RESULT, e.result)
	w.U32(unix.NFTA_FIB_FLAGS, e.flags)
}

func (e exthdrLoad) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_EXTHDR_DREG, e.dreg)
	exthdr(w, e.typ, e.offset, e.len, e.op)
}

func (e exthdrWrite) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_EXTHDR_SREG, e.sreg)
	exthdr(w, e.typ, e.offset, e.len, e.op)
}

func exthdr(w *Writer, typ, offset, size, op uint32) {
	w.u8(unix.NFTA_EXTHDR_TYPE, uint8(typ))
	w.U32(unix.NFTA_EXTHDR_OFFSET, offset)
	w.U32(unix.NFTA_EXTHDR_LEN, size)
	w.U32(unix.NFTA_EXTHDR_OP, op)
}

func (e compare) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_CMP_SREG, e.sreg)
	w.U32(unix.NFTA_CMP_OP, e.op)
	w.data(unix.NFTA_CMP_DATA, e.value)
}

func (e rangeOf) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_RANGE_SREG, e.sreg)
	w.U32(unix.NFTA_RANGE_OP, e.op)
	w.data(unix.NFTA_RANGE_FROM_DATA, e.from)
	w.data(unix.NFTA_RANGE_TO_DATA, e.to)
}

func (e bitwise) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_BITWISE_SREG, e.sreg)
	w.U32(unix.NFTA_BITWISE_DREG, e.dreg)
	w.U32(unix.NFTA_BITWISE_LEN, e.len)
	w.data(unix.NFTA_BITWISE_MASK, e.mask)
	w.data(unix.NFTA_BITWISE_XOR, e.xor)
}

func (e byteorder) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_BYTEORDER_SREG, e.sreg)
	w.U32(unix.NFTA_BYTEORDER_DREG, e.dreg)
	w.U32(unix.NFTA_BYTEORDER_OP, e.op)
	w.U32(unix.NFTA_BYTEORDER_LEN, e.len)
	w.U32(unix.NFTA_BYTEORDER_SIZE, e.size)
}

func (e Lookup) encode(w *Writer, ids *SetIDs) {
	set := e.Set
	if e.Values != "" {
		set = anonymousSetTemplate
		w.U32(unix.NFTA_LOOKUP_SET_ID, ids.Next())
	}
	w.Text(unix.NFTA_LOOKUP_SET, set)
	w.U32(unix.NFTA_LOOKUP_SREG, e.sreg)
	if e.isMap {
		w.U32(unix.NFTA_LOOKUP_DREG, unix.NFT_REG_VERDICT)
	}
	if e.not {
		w.U32(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV)
	}
}

func (e dynset) encode(w *Writer, _ *SetIDs) {
	w.Text(unix.NFTA_DYNSET_SET_NAME, e.set)
	w.U32(unix.NFTA_DYNSET_OP, e.op)
	w.U32(unix.NFTA_DYNSET_SREG_KEY, e.sreg)
	if e.timeout != 0 {
		w.U64(unix.NFTA_DYNSET_TIMEOUT, e.timeout)
	}
}

func (e immediate) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_IMMEDIATE_DREG, e.dreg)
	w.data(unix.NFTA_IMMEDIATE_DATA, e.value)
}

func (e verdict) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
	w.verdict(unix.NFTA_IMMEDIATE_DATA, e)
}

// verdict appends a verdict as data.
func (w *Writer) verdict(typ uint16, v verdict) {
	n := w.Nest(typ)
	inner := w.Nest(unix.NFTA_DATA_VERDICT)
	w.U32(unix.NFTA_VERDICT_CODE, uint32(v.code))
	if v.chain != "" {
		w.Text(unix.NFTA_VERDICT_CHAIN, v.chain)
	}
	w.End(inner)
	w.End(n)
}

func (counter) encode(w *Writer, _ *SetIDs) { w.count(sets.Count{}) }

func (e logTo) encode(w *Writer, _ *SetIDs) {
	if e.prefix != "" {
		w.Text(unix.NFTA_LOG_PREFIX, e.prefix)
	}
	if e.hasGroup {
		w.u16(unix.NFTA_LOG_GROUP, e.group)
	}
}

func (e limit) encode(w *Writer, _ *SetIDs) {
	w.U64(unix.NFTA_LIMIT_RATE, e.rate)
	w.U64(unix.NFTA_LIMIT_UNIT, e.unit)
	w.U32(unix.NFTA_LIMIT_BURST, e.burst)
	w.U32(unix.NFTA_LIMIT_TYPE, e.typ)
	w.U32(unix.NFTA_LIMIT_FLAGS, e.flags)
}

func (e reject) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_REJECT_TYPE, e.typ)
	w.u8(unix.NFTA_REJECT_ICMP_CODE, e.code)
}

func (e natTo) encode(w *Writer, _ *SetIDs) {
	w.U32(unix.NFTA_NAT_TYPE, e.typ)
	w.U32(unix.NFTA_NAT_FAMILY, e.family)
	w.U32(unix.NFTA_NAT_REG_ADDR_MIN, e.addr)
}

func (Unknown) encode(*Writer, *SetIDs) {}
