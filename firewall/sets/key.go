package sets

import (
	"encoding/binary"
	"net/netip"
)

// word is the unit of the kernel's registers, to which each value of a key is
// padded.
const word = 4

// Pad returns the size of a value in a key.
func Pad(size int) int { return (size + word - 1) &^ (word - 1) }

// KeySize returns the size of a set's keys in bytes.
func KeySize(fields []Field) int {
	n := 0
	for _, f := range fields {
		n += Pad(f.Type().Size())
	}
	return n
}

// KeyOf makes a key of the values of a set's fields.
func KeyOf(values ...Value) Key {
	b := make([]byte, 0, 40)
	for _, v := range values {
		b = v.Append(b)
		for len(b)%word != 0 {
			b = append(b, 0)
		}
	}
	return Key(b)
}

// Values splits a key into the values of a set's fields. It returns nil if the
// key has another size.
func (k Key) Values(fields []Field) []Value {
	if len(k) != KeySize(fields) {
		return nil
	}
	values := make([]Value, len(fields))
	for i, f := range fields {
		size := f.Type().Size()
		values[i] = Bytes([]byte(k[:size]))
		k = k[Pad(size):]
	}
	return values
}

// AppendUint appends a number of four bytes to a key that is being made.
func AppendUint(b []byte, n uint32) []byte { return binary.BigEndian.AppendUint32(b, n) }

// AppendAddr appends an address to a key that is being made.
func AppendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		four := a.As4()
		return append(b, four[:]...)
	}
	sixteen := a.As16()
	return append(b, sixteen[:]...)
}

// LastAddr returns the last address of a prefix, for the end of a range.
func LastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	bits := p.Bits()
	for i := range b {
		switch {
		case bits <= 0:
			b[i] = 0xff
		case bits < 8:
			b[i] |= 0xff >> bits
		}
		bits -= 8
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
