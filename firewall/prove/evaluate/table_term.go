package evaluate

import (
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/prove/bdd"
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
	size := t.Field.Type().Size()
	mask := allBits(size)
	switch {
	case t.Mask != 0:
		mask = sets.Number(t.Field.Type(), uint64(t.Mask))
	case t.Field.Clear != 0:
		mask = maskOf(8*size-int(t.Field.Clear), size)
	}
	fits := func(p part) space.Set { return e.equals(p, t.Value, mask) }
	if size != t.Value.Len() { // the beginning of a name
		fits = func(p part) space.Set {
			begins := strings.HasPrefix(string(p.value.Append(nil)), string(t.Value.Append(nil)))
			return e.And(p.in, space.TruthOf(p.isValue() && begins))
		}
	}
	low, high := maskOf(0, size), allBits(size)
	not := false
	switch t.Op {
	case sets.Neq:
		not = true
	case sets.Lt, sets.Gte:
		fits, not = func(p part) space.Set { return e.between(p, t.Value, high) }, t.Op == sets.Lt
	case sets.Gt, sets.Lte:
		fits, not = func(p part) space.Set { return e.between(p, low, t.Value) }, t.Op == sets.Gt
	}
	return e.any(t.Field, m, not, fits)
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
	first := x.Key.Values(s.Key)
	last := first
	if s.Interval {
		last = x.Last.Values(s.Key)
	}
	var literals []bdd.Literal
	rest := space.All
	for i := range fields {
		lo, hi := first[i].Append(nil), last[i].Append(nil)
		length, isPrefix := prefixLength(lo, hi)
		length = min(length, 8*len(lo)-int(fields[i].Clear))
		if of := parts[i]; isPrefix && len(of) == 1 && e.plain(of[0]) {
			for j, bit := range of[0].bits[:length] {
				if bit != isUntold {
					literals = append(literals, bdd.Literal{Bit: bit, Is: lo[j/8]>>(7-j%8)&1 != 0})
				}
			}
			continue
		}
		set := space.None
		for _, p := range parts[i] {
			set = e.Or(set, e.between(p, first[i], last[i]))
		}
		rest = e.And(rest, set)
	}
	return e.And(e.Cube(literals), rest)
}

// plain reports whether all bits of a part are bits of the packet.
func (e *tableEvaluator) plain(p part) bool { return !p.isValue() && p.bits[0] >= 0 }
