package nftables

import (
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// be is the byte order of numbers in nf_tables attributes; netlink headers and
// attribute headers are in native's.
var (
	be     = binary.BigEndian
	native = binary.NativeEndian
)

// littleEndian is true if the machine's byte order differs from that of the
// network.
var littleEndian = native.Uint16([]byte{1, 0}) == 1

const (
	attrType   = 0x3fff // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
	attrHeader = unix.SizeofNlAttr
	headerSize = unix.SizeofNlMsghdr + 4 // struct nfgenmsg
)

// writer appends netlink attributes to a buffer.
type writer struct{ b []byte }

func (w *writer) pad() {
	for len(w.b)%4 != 0 {
		w.b = append(w.b, 0)
	}
}

// bytes appends an attribute.
func (w *writer) bytes(typ uint16, value []byte) {
	w.b = native.AppendUint16(w.b, uint16(attrHeader+len(value)))
	w.b = native.AppendUint16(w.b, typ)
	w.b = append(w.b, value...)
	w.pad()
}

// text appends a string with its end.
func (w *writer) text(typ uint16, value string) {
	w.b = native.AppendUint16(w.b, uint16(attrHeader+len(value)+1))
	w.b = native.AppendUint16(w.b, typ)
	w.b = append(append(w.b, value...), 0)
	w.pad()
}

func (w *writer) u8(typ uint16, n uint8)   { w.bytes(typ, []byte{n}) }
func (w *writer) u16(typ uint16, n uint16) { w.bytes(typ, be.AppendUint16(nil, n)) }

func (w *writer) u32(typ uint16, n uint32) {
	var b [4]byte
	be.PutUint32(b[:], n)
	w.bytes(typ, b[:])
}

func (w *writer) u64(typ uint16, n uint64) {
	var b [8]byte
	be.PutUint64(b[:], n)
	w.bytes(typ, b[:])
}

// nest begins an attribute of attributes; end, with what it returned, ends it.
func (w *writer) nest(typ uint16) (start int) {
	start = len(w.b)
	w.b = native.AppendUint16(w.b, 0)
	w.b = native.AppendUint16(w.b, typ|unix.NLA_F_NESTED)
	return start
}

func (w *writer) end(start int) { native.PutUint16(w.b[start:], uint16(len(w.b)-start)) }

// begin appends the header of a message of nf_tables; finish ends it.
func (w *writer) begin(typ uint16, flags uint16, seq uint32) (start int) {
	return w.message(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags, seq, unix.NFPROTO_INET, 0)
}

func (w *writer) message(typ, flags uint16, seq uint32, family uint8, resource uint16) (start int) {
	start = len(w.b)
	w.b = native.AppendUint32(w.b, 0)
	w.b = native.AppendUint16(w.b, typ)
	w.b = native.AppendUint16(w.b, flags|unix.NLM_F_REQUEST)
	w.b = native.AppendUint32(w.b, seq)
	w.b = native.AppendUint32(w.b, 0)
	w.b = append(w.b, family, unix.NFNETLINK_V0)
	w.b = be.AppendUint16(w.b, resource)
	return start
}

func (w *writer) finish(start int) { native.PutUint32(w.b[start:], uint32(len(w.b)-start)) }

// attr is one attribute that was read.
type attr struct {
	typ   uint16
	value []byte
}

// attrs yields the attributes of a buffer. One that is cut short ends them: the
// kernel writes none, and what is missing is found missing.
func attrs(b []byte) iter.Seq[attr] {
	return func(yield func(attr) bool) {
		for len(b) >= attrHeader {
			size := int(native.Uint16(b))
			if size < attrHeader || size > len(b) {
				return
			}
			if !yield(attr{native.Uint16(b[2:]) & attrType, b[attrHeader:size]}) {
				return
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}

// u32 reads a number, 0 from an attribute of another size.
func (a attr) u32() uint32 {
	if len(a.value) != 4 {
		return 0
	}
	return be.Uint32(a.value)
}

func (a attr) u64() uint64 {
	if len(a.value) != 8 {
		return 0
	}
	return be.Uint64(a.value)
}

func (a attr) u16() uint16 {
	if len(a.value) != 2 {
		return 0
	}
	return be.Uint16(a.value)
}

func (a attr) u8() uint8 {
	if len(a.value) != 1 {
		return 0
	}
	return a.value[0]
}

// text reads a string without its end.
func (a attr) text() string {
	b := a.value
	if len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return string(b)
}

// data reads the bytes in a nested NFTA_DATA_VALUE.
func (a attr) data() string {
	for d := range attrs(a.value) {
		if d.typ == unix.NFTA_DATA_VALUE {
			return string(d.value)
		}
	}
	return ""
}

// data appends bytes as a nested NFTA_DATA_VALUE.
func (w *writer) data(typ uint16, value string) {
	n := w.nest(typ)
	w.bytes(unix.NFTA_DATA_VALUE, []byte(value))
	w.end(n)
}
