package wire

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// liftRule returns the terms that compile to a rule's expressions. A rule that
// this package would not write as it stands is one unknown term, so it never
// passes for a wanted one.
func liftRule(exprs []expr, interval IsInterval) []sets.Term {
	l := lifter{rest: exprs}
	for len(l.rest) > 0 {
		t, ok := l.next()
		if !ok {
			return []sets.Term{unknownRule(exprs)}
		}
		l.known.Before(t)
		l.terms = append(l.terms, t)
	}
	terms := sets.Canonical(l.terms)
	if !slices.EqualFunc(CompileRule(terms, interval), exprs, sameExpr) {
		return []sets.Term{unknownRule(exprs)}
	}
	return terms
}

// sameExpr compares two expressions without the byte order of an anonymous set's
// values, which is for nft alone.
func sameExpr(a, b expr) bool {
	x, isX := a.(Lookup)
	y, isY := b.(Lookup)
	if isX && isY {
		x.order, y.order = 0, 0
		return x == y
	}
	return a == b
}

func unknownRule(exprs []expr) sets.Term {
	names := make([]string, len(exprs))
	for i, e := range exprs {
		names[i] = e.name()
	}
	return sets.Unknown{Expression: strings.Join(names, " ")}
}

type lifter struct {
	rest  []expr
	known sets.Implied
	terms []sets.Term
}

// take returns the next expression and goes behind it, or nil at the end.
func (l *lifter) take() expr {
	if len(l.rest) == 0 {
		return nil
	}
	e := l.rest[0]
	l.rest = l.rest[1:]
	return e
}

// peek returns the next expression, or nil.
func (l *lifter) peek() expr {
	if len(l.rest) == 0 {
		return nil
	}
	return l.rest[0]
}

func (l *lifter) next() (sets.Term, bool) {
	if t, ok := l.statement(); ok {
		return t, true
	}
	return l.match()
}

// statement reads a term that loads nothing to look at.
func (l *lifter) statement() (sets.Term, bool) {
	before := l.rest
	switch e := l.take().(type) {
	case counter:
		return sets.Counter{}, true
	case logTo:
		return sets.Log{Prefix: e.prefix, ToGroup: e.hasGroup, Group: e.group}, true
	case limit:
		if e.typ == unix.NFT_LIMIT_PKTS && e.unit <= uint64(7*24*time.Hour/time.Second) {
			return sets.Limit{Rate: e.rate, Per: time.Duration(e.unit) * time.Second, Burst: e.burst, Over: e.flags&unix.NFT_LIMIT_F_INV != 0}, true
		}
	case reject:
		for with, r := range rejects {
			if r == e {
				return sets.Reject{With: with}, true
			}
		}
	case verdict:
		return liftVerdict(e)
	case immediate:
		switch l.take().(type) {
		case metaSet:
			if len(e.value) == 4 {
				return sets.SetMark{Value: uint32(liftValue(sets.TypeMark, e.value).Uint()), Mask: ^uint32(0)}, true
			}
		case exthdrWrite:
			if len(e.value) == 2 {
				return sets.MaxSeg{Size: be.Uint16([]byte(e.value))}, true
			}
		}
	case rtLoad:
		if e.key == unix.NFT_RT_TCPMSS && len(l.rest) >= 2 {
			l.rest = l.rest[2:]
			return sets.MaxSeg{}, true
		}
	case metaLoad:
		if e.key != unix.NFT_META_MARK {
			break
		}
		mask, isMask := l.take().(bitwise)
		if _, sets := l.take().(metaSet); !sets || !isMask || len(mask.mask) != 4 || len(mask.xor) != 4 {
			break
		}
		number := func(d data) uint32 { return uint32(liftValue(sets.TypeMark, d).Uint()) }
		return sets.SetMark{Value: number(mask.xor), Mask: ^number(mask.mask)}, true
	}
	l.rest = before
	return nil, false
}

func liftVerdict(e verdict) (sets.Verdict, bool) {
	for kind, code := range verdicts {
		if code == e.code {
			return sets.Verdict{Do: kind, Chain: e.chain}, true
		}
	}
	return sets.Verdict{}, false
}

// match reads fields that are loaded, and their use. Details are
// left to the comparison of the whole rule.
func (l *lifter) match() (sets.Term, bool) {
	var fields []sets.Field
	var mask data
	for word := 0; word < registerWords; {
		f, ok := loaded(l.peek(), word, l.known.Proto())
		if !ok {
			break
		}
		l.take()
		size := f.Type().Size()
		if b, ok := l.peek().(bitwise); ok && b.sreg == register(word) {
			l.take()
			if clear, ok := clearedBits(f, b.mask); ok {
				f.Clear = clear
			} else {
				mask = b.mask
			}
		}
		if _, ok := l.peek().(byteorder); ok {
			l.take()
		}
		fields = append(fields, f)
		word += sets.Pad(size) / 4
	}
	if len(fields) == 0 {
		return nil, false
	}
	f := fields[0]
	switch e := l.take().(type) {
	case compare:
		return l.compare(f, mask, e)
	case rangeOf:
		return sets.Range{Field: f, Not: true, Low: liftValue(f.Type(), e.from), High: liftValue(f.Type(), e.to)}, true
	case Lookup:
		switch {
		case e.Values != "":
			o := sets.OneOf{Field: f, Not: e.not}
			for b := e.Values; e.Size > 0 && len(b) >= e.Size; b = b[e.Size:] {
				o.Values = append(o.Values, liftValue(f.Type(), b[:e.Size]))
			}
			return o, true
		case e.isMap:
			return sets.Dispatch{Fields: fields, Map: e.Set}, true
		}
		return sets.In{Fields: fields, Not: e.not, Set: e.Set}, true
	case dynset:
		if e.timeout > uint64(maxTimeout/time.Millisecond) {
			return nil, false
		}
		return sets.Update{Fields: fields, Set: e.set, Add: e.op == unix.NFT_DYNSET_OP_ADD, Timeout: time.Duration(e.timeout) * time.Millisecond}, true
	case natTo:
		return sets.SNAT{To: f}, true
	}
	return nil, false
}

const maxTimeout = 1<<63 - 1

// compare reads a comparison of one field, or two that make a range.
func (l *lifter) compare(f sets.Field, mask data, e compare) (sets.Term, bool) {
	t := f.Type()
	if next, ok := l.peek().(compare); ok && e.op == unix.NFT_CMP_GTE && next.op == unix.NFT_CMP_LTE {
		l.take()
		return sets.Range{Field: f, Low: liftValue(t, e.value), High: liftValue(t, next.value)}, true
	}
	m := sets.Match{Field: f}
	for op, code := range comparisons {
		if code == e.op {
			m.Op = op
		}
	}
	value := e.value
	if mask != "" {
		if len(mask) > 4 {
			return nil, false
		}
		m.Mask = uint32(liftValue(t, mask).Uint())
	}
	if t == sets.TypeIPv4 || t == sets.TypeIPv6 {
		// A short value compares the bytes of a prefix.
		if missing := t.Size() - len(value); missing > 0 {
			m.Field.Clear = uint8(missing * 8)
			value += string(make([]byte, missing))
		}
	}
	m.Value = liftValue(t, value)
	return m, true
}

// liftValue returns the value of a register.
func liftValue(t sets.Type, d data) sets.Value {
	b := []byte(d)
	if littleEndian && t.HostOrder() {
		slices.Reverse(b)
	}
	return sets.Bytes(b)
}

// clearedBits returns how many low bits of an address a mask clears.
func clearedBits(f sets.Field, mask data) (uint8, bool) {
	t := f.Type()
	if t != sets.TypeIPv4 && t != sets.TypeIPv6 || len(mask) != t.Size() {
		return 0, false
	}
	for clear := range t.Size()*8 + 1 {
		f.Clear = uint8(clear)
		if string(f.Mask().Append(nil)) == mask {
			return f.Clear, true
		}
	}
	return 0, false
}
