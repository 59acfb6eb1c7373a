package wire

import (
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// Userdata is a list of types, lengths and values of one byte each for the first
// two. The kernel keeps it for the nft program, which prints comments from it and
// the fields of a set's key.

func appendUdata(b []byte, typ uint8, value []byte) []byte {
	return append(append(b, typ, uint8(len(value))), value...)
}

func appendUdata32(b []byte, typ uint8, n uint32) []byte {
	return appendUdata(b, typ, Native.AppendUint32(nil, n))
}

// comment returns a comment as userdata, nil for none.
func commentUdata(typ uint8, comment string) []byte {
	if comment == "" {
		return nil
	}
	return appendUdata(nil, typ, append([]byte(comment), 0))
}

// udata calls each with every entry. One that is cut short ends it.
func udata(b []byte, each func(typ uint8, value []byte)) {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		each(b[0], b[2:2+int(b[1])])
		b = b[2+int(b[1]):]
	}
}

func readComment(b []byte, typ uint8) (comment string) {
	udata(b, func(t uint8, value []byte) {
		if t == typ {
			comment = Attr{Value: value}.Text()
		}
	})
	return comment
}

// setUdata returns the userdata by which nft prints a set: the fields of its key in place
// of plain types, and its comment.
func setUdata(s *sets.Set) []byte {
	keyOrder := uint32(0)
	if len(s.Key) == 1 {
		keyOrder = order(s.Key[0].Type())
	}
	b := appendUdata32(nil, udataSetKeyOrder, keyOrder)
	if s.Verdicts {
		b = appendUdata32(b, udataSetDataOrder, 0)
	}
	if key := keyUdata(s.Key); key != nil {
		b = appendUdata(b, udataSetKeyType, key)
	}
	if s.Verdicts {
		data := appendUdata(appendUdata32(nil, udataExprKind, exprVerdict), udataExprData, nil)
		b = appendUdata(b, udataSetDataType, data)
	}
	return append(b, commentUdata(udataSetComment, s.Comment)...)
}

// keyUdata returns the fields of a key.
func keyUdata(fields []sets.Field) []byte {
	if len(fields) == 1 {
		return fieldUdata(fields[0])
	}
	var all []byte
	for i, f := range fields {
		all = appendUdata(all, uint8(i), fieldUdata(f))
	}
	if len(all) > 200 { // the length has one byte, and all that is around counts
		return nil
	}
	return appendUdata(appendUdata32(nil, udataExprKind, exprConcat), udataExprData, all)
}

// fieldUdata returns a field of a key as nft names it, and that of an SA as standIn has it.
func fieldUdata(f sets.Field) []byte {
	own := load(f, 0)
	if e, ok := own.(xfrmLoad); ok {
		words := appendUdata32(appendUdata32(appendUdata32(nil, 0, e.key), 1, e.spnum), 2, uint32(e.dir))
		return appendUdata(standIn(f.Type()), udataField, words)
	}
	if d, ok := descs[f.Kind]; ok {
		return exprUdata(exprPayload, d.header, d.field)
	}
	switch e := own.(type) {
	case metaLoad:
		return exprUdata(exprMeta, e.key)
	case ctLoad:
		dir := ^uint32(0)
		if e.hasDir {
			dir = uint32(e.dir)
		}
		return exprUdata(exprCt, e.key, dir)
	}
	return exprUdata(0)
}

// standIn returns a field of a type by which nft names a field of an SA. nft writes and
// reads its own number of an expression's kind. The number of xfrm is 27 up to 1.1.3, and
// in 1.1.7 it is that of fib: there nft aborts at a set that an older one, or this
// program, named by it. Meta and payload kept their numbers.
func standIn(t sets.Type) []byte {
	switch t {
	case sets.TypeIPv4:
		return fieldUdata(sets.F(sets.Src4))
	case sets.TypeIPv6:
		return fieldUdata(sets.F(sets.Src6))
	}
	return exprUdata(exprMeta, unix.NFT_META_CPU) // a number of 32 bits, as a reqid and an SPI are
}

// exprUdata returns an expression by its kind and its own words.
func exprUdata(kind uint32, words ...uint32) []byte {
	var body []byte
	for i, w := range words {
		body = appendUdata32(body, uint8(i), w)
	}
	return appendUdata(appendUdata32(nil, udataExprKind, kind), udataExprData, body)
}

// readKey returns the fields of a key. It reports false if they are not those of
// a type and a size that the kernel knows of.
func readKey(b []byte, typ, size uint32) ([]sets.Field, bool) {
	var fields []sets.Field
	ok := true
	udata(b, func(t uint8, value []byte) {
		if t != udataSetKeyType {
			return
		}
		kind, body, _ := readExpr(value)
		if kind != exprConcat {
			f, known := readField(value)
			fields, ok = []sets.Field{f}, ok && known
			return
		}
		udata(body, func(_ uint8, value []byte) {
			f, known := readField(value)
			fields, ok = append(fields, f), ok && known
		})
	})
	return fields, ok && keyType(fields) == typ && uint32(sets.KeySize(fields)) >= size && len(fields) > 0
}

// readExpr returns the kind of an expression, its own words, and those of the field of an
// SA that it stands for, nil if it stands for itself.
func readExpr(b []byte) (kind uint32, body, field []byte) {
	udata(b, func(t uint8, value []byte) {
		switch {
		case t == udataExprKind && len(value) == 4:
			kind = Native.Uint32(value)
		case t == udataExprData:
			body = value
		case t == udataField:
			field = value
		}
	})
	return kind, body, field
}

func readField(b []byte) (sets.Field, bool) {
	kind, body, field := readExpr(b)
	var n [3]uint32
	if field != nil {
		body = field
	}
	udata(body, func(t uint8, value []byte) {
		if int(t) < len(n) && len(value) == 4 {
			n[t] = Native.Uint32(value)
		}
	})
	if field != nil {
		return loaded(xfrmLoad{register(0), n[0], uint8(n[2]), n[1]}, 0, 0)
	}
	var e expr
	switch kind {
	case exprPayload:
		for k, d := range descs {
			if d == (desc{n[0], n[1]}) {
				return sets.F(k), true
			}
		}
		return sets.Field{}, false
	case exprMeta:
		e = metaLoad{register(0), n[0]}
	case exprCt:
		e = ctLoad{register(0), n[0], n[1] != ^uint32(0), uint8(n[1])}
		if n[1] == ^uint32(0) {
			e = ctLoad{dreg: register(0), key: n[0]}
		}
	default:
		return sets.Field{}, false
	}
	return loaded(e, 0, 0)
}

// keyType returns the datatype of a key as libnftables numbers it.
func keyType(fields []sets.Field) uint32 {
	var typ uint32
	for _, f := range fields {
		typ = typ<<typeBits | datatypes[f.Type()]
	}
	return typ
}
