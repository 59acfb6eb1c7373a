package main

import "encoding/binary"

// netlinkHeader is struct nlmsghdr.
type netlinkHeader struct {
	length     uint32
	typ, flags uint16
}

func (h *netlinkHeader) bytes() []byte {
	b := make([]byte, 16)
	binary.NativeEndian.PutUint32(b, h.length)
	binary.NativeEndian.PutUint16(b[4:], h.typ)
	binary.NativeEndian.PutUint16(b[6:], h.flags)
	return b
}

func headerOf(b []byte) (length int, typ uint16) {
	return int(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint16(b[4:])
}
