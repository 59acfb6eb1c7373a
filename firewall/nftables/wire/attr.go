// Package wire translates package sets' tables, chains, sets, elements and rules into
// attributes of nf_tables' netlink messages, and back.
package wire

import (
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// be is the byte order of numbers in nf_tables attributes; netlink headers and
// attribute headers are in Native's.
var (
	be     = binary.BigEndian
	Native = binary.NativeEndian
)

// littleEndian is true if the machine's byte order differs from that of the
// network.
var littleEndian = Native.Uint16([]byte{1, 0}) == 1

const (
	attrType   = 0x3fff // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
	attrHeader = unix.SizeofNlAttr
	HeaderSize = unix.SizeofNlMsghdr + 4 // struct nfgenmsg
)

// Writer appends netlink attributes to a buffer.
type Writer struct{ B []byte }

func (w *Writer) pad() {
	for len(w.B)%4 != 0 {
		w.B = append(w.B, 0)
	}
}

// bytes appends an attribute.
func (w *Writer) bytes(typ uint16, value []byte) {
	w.B = Native.AppendUint16(w.B, uint16(attrHeader+len(value)))
	w.B = Native.AppendUint16(w.B, typ)
	w.B = append(w.B, value...)
	w.pad()
}

// Text appends a string with its end.
func (w *Writer) Text(typ uint16, value string) {
	w.B = Native.AppendUint16(w.B, uint16(attrHeader+len(value)+1))
	w.B = Native.AppendUint16(w.B, typ)
	w.B = append(append(w.B, value...), 0)
	w.pad()
}

func (w *Writer) u8(typ uint16, n uint8)   { w.bytes(typ, []byte{n}) }
func (w *Writer) u16(typ uint16, n uint16) { w.bytes(typ, be.AppendUint16(nil, n)) }

// U32 appends a number of 32 bits.
func (w *Writer) U32(typ uint16, n uint32) {
	var b [4]byte
	be.PutUint32(b[:], n)
	w.bytes(typ, b[:])
}

// U64 appends a number of 64 bits.
func (w *Writer) U64(typ uint16, n uint64) {
	var b [8]byte
	be.PutUint64(b[:], n)
	w.bytes(typ, b[:])
}

// Nest begins an attribute of attributes, which ends with End(start).
func (w *Writer) Nest(typ uint16) (start int) {
	start = len(w.B)
	w.B = Native.AppendUint16(w.B, 0)
	w.B = Native.AppendUint16(w.B, typ|unix.NLA_F_NESTED)
	return start
}

// End ends the attribute that Nest began.
func (w *Writer) End(start int) { Native.PutUint16(w.B[start:], uint16(len(w.B)-start)) }

// Begin appends the header of a message of nf_tables; Finish ends it.
func (w *Writer) Begin(typ uint16, flags uint16, seq uint32) (start int) {
	return w.Message(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags, seq, unix.NFPROTO_INET, 0)
}

// Message begins a message of any subsystem of nfnetlink.
func (w *Writer) Message(typ, flags uint16, seq uint32, family uint8, resource uint16) (start int) {
	start = len(w.B)
	w.B = Native.AppendUint32(w.B, 0)
	w.B = Native.AppendUint16(w.B, typ)
	w.B = Native.AppendUint16(w.B, flags|unix.NLM_F_REQUEST)
	w.B = Native.AppendUint32(w.B, seq)
	w.B = Native.AppendUint32(w.B, 0)
	w.B = append(w.B, family, unix.NFNETLINK_V0)
	w.B = be.AppendUint16(w.B, resource)
	return start
}

// Finish ends the message that Begin or Message began.
func (w *Writer) Finish(start int) { Native.PutUint32(w.B[start:], uint32(len(w.B)-start)) }

// Attr is one attribute that was read.
type Attr struct {
	Type  uint16
	Value []byte
}

// Attrs yields the attributes of a buffer. One that is cut short ends them: the
// kernel writes none, and the reader notices missing attributes.
func Attrs(b []byte) iter.Seq[Attr] {
	return func(yield func(Attr) bool) {
		for len(b) >= attrHeader {
			size := int(Native.Uint16(b))
			if size < attrHeader || size > len(b) {
				return
			}
			if !yield(Attr{Native.Uint16(b[2:]) & attrType, b[attrHeader:size]}) {
				return
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}

// U32 reads a number, 0 from an attribute of another size.
func (a Attr) U32() uint32 {
	if len(a.Value) != 4 {
		return 0
	}
	return be.Uint32(a.Value)
}

func (a Attr) u64() uint64 {
	if len(a.Value) != 8 {
		return 0
	}
	return be.Uint64(a.Value)
}

func (a Attr) u16() uint16 {
	if len(a.Value) != 2 {
		return 0
	}
	return be.Uint16(a.Value)
}

func (a Attr) u8() uint8 {
	if len(a.Value) != 1 {
		return 0
	}
	return a.Value[0]
}

// Text reads a string without its end.
func (a Attr) Text() string {
	b := a.Value
	if len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return string(b)
}

// data reads the bytes in a nested NFTA_DATA_VALUE.
func (a Attr) data() string {
	for d := range Attrs(a.Value) {
		if d.Type == unix.NFTA_DATA_VALUE {
			return string(d.Value)
		}
	}
	return ""
}

// data appends bytes as a nested NFTA_DATA_VALUE.
func (w *Writer) data(typ uint16, value string) {
	n := w.Nest(typ)
	w.bytes(unix.NFTA_DATA_VALUE, []byte(value))
	w.End(n)
}
