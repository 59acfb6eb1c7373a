package evaluate

import (
	"net/netip"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// matching returns the packets of a stream that a term matches, and false for a term that
// has no model. The packets of a field without a value match nothing.
func (e *tableEvaluator) matching(t sets.Term, m int) (space.Set, bool) {
	key := termKey{t.String(), 0}
	if asksMark(t) {
		key.mark = 1 + m
	}
	if known, ok := e.terms[key]; ok {
		return known, true
	}
	set, ok := e.match(t, m)
	if ok {
		e.terms[key] = set
	}
	return set, ok
}

// termKey is a term, and 1 more than the stream of a term about the mark.
type termKey struct {
	words string
	mark  int
}

func asksMark(t sets.Term) bool {
	switch t := t.(type) {
	case sets.Match:
		return t.Field.Kind == sets.Mark
	case sets.Range:
		return t.Field.Kind == sets.Mark
	case sets.OneOf:
		return t.Field.Kind == sets.Mark
	}
	return false
}

func (e *tableEvaluator) match(t sets.Term, m int) (space.Set, bool) {
	switch t := t.(type) {
	case sets.Match:
		return e.compares(t, m)
	case sets.Range:
		return e.any(t.Field, m, t.Not, func(p part) space.Set { return e.between(p, t.Low, t.High) })
	case sets.OneOf:
		return e.any(t.Field, m, t.Not, func(p part) space.Set {
			list := make([]space.Set, len(t.Values))
			for i, v := range t.Values {
				list[i] = e.equals(p, v, allBits(v.Len()))
			}
			return e.Union(list...)
		})
	case sets.In:
		return e.in(t)
	}
	return space.None, false
}

// any returns the packets of which a field has a fitting value, or no fitting value.
func (e *tableEvaluator) any(f sets.Field, m int, not bool, fits func(part) space.Set) (space.Set, bool) {
	parts, ok := e.partsOf(f, m)
	result := space.None
	for _, p := range parts {
		set := fits(p)
		if not {
			set = e.Minus(p.in, set)
		}
		result = e.Or(result, set)
	}
	return result, ok
}

func (e *tableEvaluator) partsOf(f sets.Field, m int) ([]part, bool) {
	if f.Kind == sets.Mark {
		return e.markParts(m, e.at), true
	}
	return e.parts(f, e.at)
}

func (e *tableEvaluator) compares(t sets.Match, m int) (space.Set, bool) {
	if lo, hi, not, ok := bounds(t); ok {
		return e.any(t.Field, m, not, func(p part) space.Set { return e.between(p, lo, hi) })
	}
	fits := func(p part) space.Set { return e.equals(p, t.Value, maskIn(t)) }
	if t.Field.Type().Size() != t.Value.Len() { // the beginning of a name
		fits = func(p part) space.Set {
			begins := strings.HasPrefix(string(p.value.Append(nil)), string(t.Value.Append(nil)))
			return e.And(p.in, space.TruthOf(p.isValue() && begins))
		}
	}
	return e.any(t.Field, m, t.Op == sets.Neq, fits)
}

// maskIn is the mask under which a field is compared.
func maskIn(t sets.Match) sets.Value {
	size := t.Field.Type().Size()
	if t.Mask != 0 {
		return sets.Number(t.Field.Type(), uint64(t.Mask))
	}
	return maskOf(8*size-int(t.Field.Clear), size)
}

// bounds are the first and the last value that fit, or that do not. Not all comparisons are
// of a range: a mask chooses bits, and a name has a beginning.
func bounds(t sets.Match) (lo, hi sets.Value, not, ok bool) {
	size := t.Field.Type().Size()
	switch t.Op {
	case sets.Lt, sets.Gte:
		return t.Value, allBits(size), t.Op == sets.Lt, true
	case sets.Gt, sets.Lte:
		return maskOf(0, size), t.Value, t.Op == sets.Gt, true
	}
	if t.Mask != 0 || size != t.Value.Len() || masked(t.Value, maskIn(t)) != t.Value {
		return t.Value, t.Value, false, false
	}
	return t.Value, cleared(t.Field, t.Value), t.Op == sets.Neq, true
}

// in returns the packets with fields that a set holds, or has not.
func (e *tableEvaluator) in(t sets.In) (space.Set, bool) {
	s, ok := e.table.sets[t.Set]
	if !ok {
		return space.None, false
	}
	all, parts, ok := e.keyed(t.Fields)
	if !ok {
		return space.None, false
	}
	if all == space.None || s.Dynamic { // rules have added no element yet
		return e.And(all, space.TruthOf(t.Not)), true
	}
	found := make([]space.Set, len(s.Elements))
	for i := range s.Elements {
		found[i] = e.element(s, &s.Elements[i], t.Fields, parts)
	}
	return e.And(all, space.Negated(e.Union(found...), t.Not)), true
}

// keyed returns the packets that have all fields of a key, and the parts of each.
func (e *tableEvaluator) keyed(fields []sets.Field) (space.Set, [][]part, bool) {
	all, parts := space.All, make([][]part, len(fields))
	for i, f := range fields {
		of, ok := e.parts(f, e.at)
		if !ok {
			return space.None, nil, false
		}
		in := space.None
		for _, p := range of {
			in = e.Or(in, p.in)
		}
		all, parts[i] = e.And(all, in), of
	}
	return all, parts, true
}

// element returns the packets that find an element, among those that have all fields.
// Most fields are bits of the packet, of which one cube is made.
func (e *tableEvaluator) element(s *sets.Set, x *sets.Element, fields []sets.Field, parts [][]part) space.Set {
	first, last := elementEnds(s, x)
	c := e.Condition()
	for i, f := range fields {
		lo, hi := first[i], cleared(f, last[i])
		if of := parts[i]; len(of) == 1 && e.asks(c, of[0], lo, hi) {
			continue
		}
		set := space.None
		for _, p := range parts[i] {
			set = e.Or(set, e.between(p, lo, hi))
		}
		c.And(set)
	}
	return c.Set()
}

// asks adds to a condition that a part has a value in a range, if that is a matter of a few
// bits of the packet.
func (e *tableEvaluator) asks(c *space.Condition, p part, lo, hi sets.Value) bool {
	first := lo.Append(nil)
	length, ok := prefixLength(first, hi.Append(nil))
	switch {
	case !ok || p.isValue():
		return false
	case p.isClassed():
		a, _ := netip.AddrFromSlice(first)
		c.Within(p.of, netip.PrefixFrom(a, length))
		return true
	case p.bits[0] < 0:
		return false
	}
	for j, bit := range p.bits[:length] {
		c.Literal(bit, first[j/8]>>(7-j%8)&1 != 0)
	}
	return true
}
