package evaluate

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
)

// values are those that the table asks for.
func (t *table) values() space.Values {
	var v space.Values
	for _, c := range t.chains {
		for _, r := range c.Rules {
			for _, term := range r.Terms {
				switch term := term.(type) {
				case sets.Match:
					if lo, hi, _, ok := bounds(term); ok {
						noteRange(&v, term.Field, lo, hi)
					} else {
						noteRange(&v, term.Field, term.Value, term.Value)
					}
				case sets.Range:
					noteRange(&v, term.Field, term.Low, term.High)
				case sets.OneOf:
					for _, one := range term.Values {
						noteRange(&v, term.Field, one, one)
					}
				case sets.In:
					t.elementValues(&v, term.Set, term.Fields)
				case sets.Dispatch:
					t.elementValues(&v, term.Map, term.Fields)
				}
			}
		}
	}
	return v
}

// elementValues adds the values by which packets find the elements of a set.
func (t *table) elementValues(v *space.Values, name string, fields []sets.Field) {
	s, ok := t.sets[name]
	if !ok || s.Dynamic {
		return
	}
	for i := range s.Elements {
		first, last := elementEnds(s, &s.Elements[i])
		for j, f := range fields {
			noteRange(v, f, first[j], cleared(f, last[j]))
		}
	}
}

// elementEnds are the first and the last values of the fields of an element.
func elementEnds(s *sets.Set, x *sets.Element) (first, last []sets.Value) {
	first = x.Key.Values(s.Key)
	if s.Interval {
		return first, x.Last.Values(s.Key)
	}
	return first, first
}

// cleared is the last value that a field's prefix makes equal to another.
func cleared(f sets.Field, v sets.Value) sets.Value {
	if f.Clear == 0 {
		return v
	}
	return highest(v, maskOf(8*v.Len()-int(f.Clear), v.Len()))
}

// highest is the highest value that a mask makes equal to another.
func highest(v, mask sets.Value) sets.Value {
	b := v.Append(nil)
	for i, keep := range mask.Append(nil) {
		b[i] |= ^keep
	}
	return sets.Bytes(b)
}

// noteRange adds the values of a field in a range, if it is one of interfaces, addresses or
// reqids.
func noteRange(v *space.Values, f sets.Field, lo, hi sets.Value) {
	switch f.Type() {
	case sets.TypeName:
		if name, ended := nameOf(lo); ended {
			v.Names = append(v.Names, name)
		}
	case sets.TypeReqid:
		v.Reqids = append(v.Reqids, prefixes(lo, hi)...)
	case sets.TypeIPv4, sets.TypeIPv6:
		if f.OfSA() {
			v.Outer = append(v.Outer, prefixes(lo, hi)...)
		} else {
			v.Addresses = append(v.Addresses, prefixes(lo, hi)...)
		}
	}
}

// nameOf is the name of an interface in a value, and false for a name's beginning.
func nameOf(v sets.Value) (string, bool) {
	b := v.Append(nil)
	end := slices.Index(b, 0)
	if end < 1 {
		return "", false
	}
	return string(b[:end]), true
}

// prefixes are those that hold the values of a range and no others.
func prefixes(lo, hi sets.Value) []netip.Prefix {
	var list []netip.Prefix
	first, _ := netip.AddrFromSlice(lo.Append(nil))
	last, _ := netip.AddrFromSlice(hi.Append(nil))
	for first.IsValid() && first.Compare(last) <= 0 {
		p := prefix.Single(first)
		for p.Bits() > 0 {
			wider := netip.PrefixFrom(first, p.Bits()-1)
			if wider.Masked().Addr() != first || last.Less(prefix.Last(wider)) {
				break
			}
			p = wider
		}
		list = append(list, p)
		first = prefix.Last(p).Next()
	}
	return list
}
