package wire

// expr is one expression of the kernel's virtual machine. The types compare with
// ==. Registers are numbered as the kernel numbers them when it prints rules.
type expr interface {
	// name is the kernel's.
	name() string
	// encode appends the attributes of NFTA_EXPR_DATA.
	encode(w *Writer, ids *SetIDs)
}

// data are the bytes of a register.
type data = string

type (
	payloadLoad struct{ dreg, base, offset, len uint32 }
	metaLoad    struct{ dreg, key uint32 }
	metaSet     struct{ sreg, key uint32 }
	ctLoad      struct {
		dreg, key uint32
		hasDir    bool
		dir       uint8
	}
	xfrmLoad struct {
		dreg, key uint32
		dir       uint8
		spnum     uint32
	}
	rtLoad      struct{ dreg, key uint32 }
	fibLoad     struct{ dreg, result, flags uint32 }
	exthdrLoad  struct{ dreg, typ, offset, len, op uint32 }
	exthdrWrite struct{ sreg, typ, offset, len, op uint32 }
	compare     struct {
		sreg, op uint32
		value    data
	}
	rangeOf struct {
		sreg, op uint32
		from, to data
	}
	bitwise struct {
		sreg, dreg, len uint32
		mask, xor       data
	}
	byteorder struct{ sreg, dreg, op, len, size uint32 }
	Lookup    struct {
		Set   string
		sreg  uint32
		not   bool
		isMap bool
		// values are the sorted keys of an anonymous set, each of size bytes.
		Values data
		Size   int
		Type   uint32
		order  uint32
	}
	dynset struct {
		set      string
		sreg, op uint32
		timeout  uint64
	}
	immediate struct {
		dreg  uint32
		value data
	}
	verdict struct {
		code  int32
		chain string
	}
	counter struct{}
	logTo   struct {
		prefix   string
		hasGroup bool
		group    uint16
	}
	limit struct {
		rate, unit        uint64
		burst, typ, flags uint32
	}
	reject struct {
		typ  uint32
		code uint8
	}
	natTo struct{ typ, family, addr uint32 }
	// Unknown is an expression, or a form of one, that has no type here.
	Unknown struct{ expression string }
)

// register returns the kernel's number of the register that begins at a word of
// four bytes.
func register(word int) uint32 {
	if word%4 == 0 {
		return uint32(1 + word/4)
	}
	return uint32(8 + word)
}
