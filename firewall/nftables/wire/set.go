package wire

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// SetIDs numbers the sets of one batch, by which rules refer to SetIDs sets
// before the kernel has named them.
type SetIDs struct{ last uint32 }

// Next returns the ID of the next set.
func (a *SetIDs) Next() uint32 {
	a.last++
	return a.last
}

// isRanges reports whether the kernel holds ranges of a set as pairs of elements:
// it does for keys of one field.
func isRanges(s *sets.Set) bool { return s.Interval && len(s.Key) == 1 }

// Set appends the attributes of NFT_MSG_NEWSET.
func (w *Writer) Set(table string, s *sets.Set, id uint32) {
	flags := uint32(0)
	if s.Interval {
		flags |= unix.NFT_SET_INTERVAL
		if len(s.Key) > 1 {
			flags |= nftSetConcat
		}
	}
	if s.Dynamic {
		flags |= unix.NFT_SET_EVAL
	}
	if s.Timeout != 0 {
		flags |= unix.NFT_SET_TIMEOUT
	}
	if s.Verdicts {
		flags |= unix.NFT_SET_MAP
	}
	w.Text(unix.NFTA_SET_TABLE, table)
	w.Text(unix.NFTA_SET_NAME, s.Name)
	w.U32(unix.NFTA_SET_FLAGS, flags)
	w.U32(unix.NFTA_SET_KEY_TYPE, keyType(s.Key))
	w.U32(unix.NFTA_SET_KEY_LEN, keyLen(s.Key))
	w.U32(unix.NFTA_SET_ID, id)
	if s.Verdicts {
		w.U32(unix.NFTA_SET_DATA_TYPE, verdictType)
	}
	if s.Timeout != 0 {
		w.U64(unix.NFTA_SET_TIMEOUT, uint64(s.Timeout.Milliseconds()))
	}
	w.setDesc(s)
	if s.Counter {
		w.counterExpr(nftaSetExpr, sets.Count{})
	}
	w.bytes(unix.NFTA_SET_USERDATA, setUdata(s))
}

// setDesc appends the size, and for the kernel's trees over several fields the
// size of each.
func (w *Writer) setDesc(s *sets.Set) {
	fields := s.Interval && len(s.Key) > 1
	if s.Size == 0 && !fields {
		return
	}
	desc := w.Nest(unix.NFTA_SET_DESC)
	if s.Size != 0 {
		w.U32(unix.NFTA_SET_DESC_SIZE, s.Size)
	}
	if fields {
		list := w.Nest(nftaSetDescConcat)
		for _, f := range s.Key {
			item := w.Nest(unix.NFTA_LIST_ELEM)
			w.U32(nftaSetFieldLen, uint32(f.Type().Size()))
			w.End(item)
		}
		w.End(list)
	}
	w.End(desc)
}

// keyLen is the size of keys as the kernel is told: a single value is not padded.
func keyLen(fields []sets.Field) uint32 {
	if len(fields) == 1 {
		return uint32(fields[0].Type().Size())
	}
	return uint32(sets.KeySize(fields))
}

// AnonymousSet appends the attributes of NFT_MSG_NEWSET of a set that belongs to
// one rule.
func (w *Writer) AnonymousSet(table string, l Lookup, id uint32) {
	w.Text(unix.NFTA_SET_TABLE, table)
	w.Text(unix.NFTA_SET_NAME, anonymousSetTemplate)
	w.U32(unix.NFTA_SET_FLAGS, unix.NFT_SET_ANONYMOUS|unix.NFT_SET_CONSTANT)
	w.U32(unix.NFTA_SET_KEY_TYPE, l.Type)
	w.U32(unix.NFTA_SET_KEY_LEN, uint32(l.Size))
	w.U32(unix.NFTA_SET_ID, id)
	desc := w.Nest(unix.NFTA_SET_DESC)
	w.U32(unix.NFTA_SET_DESC_SIZE, uint32(len(l.Values)/l.Size))
	w.End(desc)
	w.bytes(unix.NFTA_SET_USERDATA, appendUdata32(nil, udataSetKeyOrder, l.order))
}

// AnonymousElements appends the attributes of NFT_MSG_NEWSETELEM of the same set.
func (w *Writer) AnonymousElements(table string, l Lookup, id uint32) {
	w.Text(unix.NFTA_SET_ELEM_LIST_TABLE, table)
	w.Text(unix.NFTA_SET_ELEM_LIST_SET, anonymousSetTemplate)
	w.U32(unix.NFTA_SET_ELEM_LIST_SET_ID, id)
	list := w.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
	for b := l.Values; len(b) >= l.Size; b = b[l.Size:] {
		item := w.Nest(unix.NFTA_LIST_ELEM)
		w.data(unix.NFTA_SET_ELEM_KEY, b[:l.Size])
		w.End(item)
	}
	w.End(list)
}

// Element appends an element to a list of elements: one entry, or the two ends of
// a range in a set of one field. To delete it only the key matters.
func (w *Writer) Element(s *sets.Set, e *sets.Element, add bool) {
	item := w.Nest(unix.NFTA_LIST_ELEM)
	w.key(unix.NFTA_SET_ELEM_KEY, s, e.Key)
	if s.Interval && !isRanges(s) {
		w.key(nftaSetElemKeyEnd, s, e.Last)
	}
	if add {
		w.elementData(s, e)
	}
	w.End(item)
	if !isRanges(s) {
		return
	}
	if end, ok := after(e.Last, s.Key[0].Type().Size()); ok {
		item := w.Nest(unix.NFTA_LIST_ELEM)
		w.U32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
		w.key(unix.NFTA_SET_ELEM_KEY, s, end)
		w.End(item)
	}
}

func (w *Writer) elementData(s *sets.Set, e *sets.Element) {
	if s.Verdicts {
		w.verdict(unix.NFTA_SET_ELEM_DATA, verdictOf(e.Verdict))
	}
	if s.Counter && e.Count != (sets.Count{}) {
		w.counterExpr(unix.NFTA_SET_ELEM_EXPR, e.Count)
	}
	if e.Comment != "" {
		w.bytes(nftaSetElemUserdata, commentUdata(udataComment, e.Comment))
	}
}

// key appends a key in the kernel's byte order. In sets of intervals that is the
// network's; in others it is that of the registers.
func (w *Writer) key(typ uint16, s *sets.Set, k sets.Key) {
	n := w.Nest(typ)
	start := len(w.B) + attrHeader
	w.bytes(unix.NFTA_DATA_VALUE, []byte(k)[:min(len(k), int(keyLen(s.Key)))])
	w.End(n)
	swapKey(s, w.B[start:])
}

// swapKey turns the values of a key from the network's byte order to the kernel's,
// or back.
func swapKey(s *sets.Set, b []byte) {
	if !littleEndian || s.Interval {
		return
	}
	for _, f := range s.Key {
		size := f.Type().Size()
		if f.Type().HostOrder() && len(b) >= size {
			slices.Reverse(b[:size])
		}
		b = b[min(len(b), sets.Pad(size)):]
	}
}

// after returns the key behind a key with a value of a size, and reports false if it is
// the last.
func after(k sets.Key, size int) (sets.Key, bool) {
	b := []byte(k)
	for i := min(size, len(b)) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return sets.Key(b), true
		}
	}
	return k, false
}

// before returns the key in front of a key with a value of a size.
func before(k sets.Key, size int) sets.Key {
	b := []byte(k)
	for i := min(size, len(b)) - 1; i >= 0; i-- {
		if b[i]--; b[i] != 0xff {
			break
		}
	}
	return sets.Key(b)
}

// Set is a set as it was read, with fields that package sets does not hold.
type Set struct {
	sets.Set
	Anonymous        bool
	KeyType, KeySize uint32
}

// DecodeSet reads the attributes of a set. A set that this package would not write
// has no fields, so that it equals no wanted one.
func DecodeSet(b []byte) Set {
	var s Set
	var flags, dataType uint32
	var user []byte
	odd := false
	for a := range Attrs(b) {
		switch a.Type {
		case unix.NFTA_SET_NAME:
			s.Name = a.Text()
		case unix.NFTA_SET_FLAGS:
			flags = a.U32()
		case unix.NFTA_SET_KEY_TYPE:
			s.KeyType = a.U32()
		case unix.NFTA_SET_KEY_LEN:
			s.KeySize = a.U32()
		case unix.NFTA_SET_DATA_TYPE:
			dataType = a.U32()
		case unix.NFTA_SET_TIMEOUT:
			s.Timeout = milliseconds(a.u64())
		case unix.NFTA_SET_DESC:
			for d := range Attrs(a.Value) {
				if d.Type == unix.NFTA_SET_DESC_SIZE {
					s.Size = d.U32()
				}
			}
		case nftaSetExpr:
			name := exprName(a.Value)
			s.Counter = name == "counter"
			odd = odd || name != "counter"
		case nftaSetExpressions, unix.NFTA_SET_OBJ_TYPE, unix.NFTA_SET_GC_INTERVAL:
			odd = true
		case unix.NFTA_SET_USERDATA:
			user = a.Value
		}
	}
	const known = unix.NFT_SET_ANONYMOUS | unix.NFT_SET_CONSTANT | unix.NFT_SET_INTERVAL | unix.NFT_SET_MAP | unix.NFT_SET_TIMEOUT | unix.NFT_SET_EVAL | nftSetConcat
	s.Anonymous = flags&unix.NFT_SET_ANONYMOUS != 0
	s.Interval = flags&unix.NFT_SET_INTERVAL != 0
	s.Dynamic = flags&unix.NFT_SET_EVAL != 0
	s.Verdicts = flags&unix.NFT_SET_MAP != 0 && dataType == verdictType
	s.Comment = readComment(user, udataSetComment)
	odd = odd || flags&^known != 0 || flags&unix.NFT_SET_MAP != 0 && !s.Verdicts ||
		!s.Anonymous && flags&unix.NFT_SET_CONSTANT != 0
	key, ok := readKey(user, s.KeyType, s.KeySize)
	if ok && !odd && keyLen(key) == s.KeySize {
		s.Key = key
	}
	return s
}

func exprName(b []byte) string {
	for a := range Attrs(b) {
		if a.Type == unix.NFTA_EXPR_NAME {
			return a.Text()
		}
	}
	return ""
}

func milliseconds(n uint64) time.Duration {
	return time.Duration(min(n, uint64(maxTimeout/time.Millisecond))) * time.Millisecond
}

// Element is an element as it was read.
type Element struct {
	sets.Element
	end bool // the end of a range in a set of one field
}

// DecodeElements reads the elements of one message.
func DecodeElements(s *sets.Set, b []byte, each func(Element)) {
	for a := range Attrs(b) {
		if a.Type != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		for item := range Attrs(a.Value) {
			each(decodeElement(s, item.Value))
		}
	}
}

func decodeElement(s *sets.Set, b []byte) Element {
	var e Element
	for a := range Attrs(b) {
		switch a.Type {
		case unix.NFTA_SET_ELEM_KEY:
			e.Key = decodeKey(s, a)
		case nftaSetElemKeyEnd:
			e.Last = decodeKey(s, a)
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = a.U32()&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_DATA:
			v, _ := liftVerdict(decodeVerdict(a))
			e.Verdict = v
		case unix.NFTA_SET_ELEM_EXPIRATION:
			e.Expires = milliseconds(a.u64())
		case nftaSetElemUserdata:
			e.Comment = readComment(a.Value, udataComment)
		case unix.NFTA_SET_ELEM_EXPR:
			for x := range Attrs(a.Value) {
				if x.Type == unix.NFTA_EXPR_DATA {
					e.Count = decodeCount(x.Value)
				}
			}
		}
	}
	return e
}

func decodeKey(s *sets.Set, a Attr) sets.Key {
	for d := range Attrs(a.Value) {
		if d.Type != unix.NFTA_DATA_VALUE {
			continue
		}
		var room [64]byte
		n := copy(room[:], d.Value)
		if size := sets.KeySize(s.Key); size <= len(room) && n < size {
			n = size
		}
		swapKey(s, room[:n])
		return sets.Key(room[:n])
	}
	return ""
}

// Gather puts the elements of a set in order, and for one of ranges joins the ends
// to their beginnings.
func Gather(s *sets.Set, read []Element) []sets.Element {
	if !isRanges(s) {
		out := make([]sets.Element, len(read))
		for i, e := range read {
			out[i] = e.Element
			if s.Interval && e.Last == "" {
				out[i].Last = e.Key
			}
		}
		slices.SortFunc(out, sets.Element.Compare)
		return out
	}
	size := s.Key[0].Type().Size()
	slices.SortFunc(read, func(a, b Element) int {
		if a.Key == b.Key && a.end != b.end {
			if a.end {
				return -1
			}
			return 1
		}
		return a.Compare(b.Element)
	})
	var out []sets.Element
	open := false
	for _, e := range read {
		switch {
		case !e.end && e.Last != "":
			out, open = append(out, e.Element), false
		case !e.end:
			out, open = append(out, e.Element), true
			out[len(out)-1].Last = lastKey(size)
		case open:
			out[len(out)-1].Last, open = before(e.Key, size), false
		}
	}
	return out
}

// lastKey is the greatest key of one value.
func lastKey(size int) sets.Key {
	b := make([]byte, sets.Pad(size))
	for i := range size {
		b[i] = 0xff
	}
	return sets.Key(b)
}
