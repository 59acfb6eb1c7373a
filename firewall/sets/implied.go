package sets

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Implied follows a rule term by term and knows of which packets the next one is
// true already: of which family, protocol and kind of device. Headers are there
// only in such packets, so a term that looks at one implies a match before it.
type Implied struct {
	family xfrm.Family
	proto  xfrm.Proto
	ether  bool
}

// Proto returns the protocol that is known, 0 if none is.
func (i Implied) Proto() xfrm.Proto { return i.proto }

// Before returns the matches that a term implies at its place, in the order of
// nft, and goes on behind the term. Rules that are written as text get them
// from nft; rules that are sent to the kernel must have them.
func (i *Implied) Before(t Term) []Match {
	var before []Match
	if m, ok := t.(Match); ok {
		i.learn(m)
	}
	for _, f := range t.fields() {
		if family, _, _ := f.Needs(); family != 0 && i.family != family {
			i.family = family
			before = append(before, familyMatch(family))
		}
	}
	for _, f := range t.fields() {
		if _, proto, _ := f.Needs(); proto != 0 && i.proto != proto {
			i.proto = proto
			before = append(before, protoMatch(proto))
		}
	}
	for _, f := range t.fields() {
		if _, _, ether := f.Needs(); ether && !i.ether {
			i.ether = true
			before = append(before, etherMatch)
		}
	}
	return before
}

// learn takes note of a match that says of which packets the rest is true.
func (i *Implied) learn(m Match) {
	switch {
	case !m.isImplicit():
	case m.Field.Kind == NFProto:
		i.family = xfrm.Family(m.Value.Uint())
	case m.Field.Kind == L4Proto:
		i.proto = xfrm.Proto(m.Value.Uint())
	default:
		i.ether = true
	}
}

// has reports whether a match is implied already.
func (i Implied) has(m Match) bool {
	after := i
	after.learn(m)
	return after == i
}

func familyMatch(f xfrm.Family) Match { return EqualsNumber(NFProto, uint64(f)) }
func protoMatch(p xfrm.Proto) Match   { return EqualsNumber(L4Proto, uint64(p)) }

// etherMatch matches devices with Ethernet addresses (ARPHRD_ETHER).
var etherMatch = Match{Field: F(InType), Value: Bytes([]byte{0, 1})}

// EtherMatch is the match that fields of the Ethernet header imply.
func EtherMatch() Match { return etherMatch }

// Canonical returns the terms without the matches that are implied already
// or that the term right behind them implies, so that rules which do the same compare as equal.
func Canonical(terms []Term) []Term {
	var known Implied
	out := make([]Term, 0, len(terms))
	// The last run of matches in out that could be implied begins at run, where
	// before was known.
	run, before := 0, known
	for _, t := range terms {
		t = withProto(t, known.proto)
		if m, ok := t.(Match); ok && m.isImplicit() {
			if known.has(m) {
				continue
			}
			if len(out) == run {
				before = known
			}
			known.Before(t)
			out = append(out, t)
			continue
		}
		if run < len(out) {
			after := before
			implied := after.Before(t)
			kept := slices.DeleteFunc(slices.Clone(out[run:]), func(e Term) bool {
				return slices.Contains(implied, e.(Match))
			})
			out = append(out[:run], kept...)
		}
		known.Before(t)
		out = append(out, t)
		run, before = len(out), known
	}
	return out
}

// isImplicit reports whether a match is one that a later term may imply.
func (m Match) isImplicit() bool {
	return m.Op == Eq && m.Mask == 0 && (m.Field == F(NFProto) || m.Field == F(L4Proto) || m == etherMatch)
}

// withProto returns the term with ports named by the protocol that is known, and
// lists of values in order.
func withProto(t Term, p xfrm.Proto) Term {
	switch t := t.(type) {
	case Match:
		t.Field = t.Field.withProto(p)
		return t
	case Range:
		t.Field = t.Field.withProto(p)
		return t
	case OneOf:
		t.Field = t.Field.withProto(p)
		if len(t.Values) == 1 {
			return t.only()
		}
		t.Values = slices.Clone(t.Values)
		slices.SortFunc(t.Values, Value.Compare)
		return t
	case In:
		t.Fields = fieldsWithProto(t.Fields, p)
		return t
	case Dispatch:
		t.Fields = fieldsWithProto(t.Fields, p)
		return t
	case Update:
		t.Fields = fieldsWithProto(t.Fields, p)
		return t
	}
	return t
}

// only returns the match for a list of one value, to which nft turns it too.
func (o OneOf) only() Match {
	m := Match{Field: o.Field, Value: o.Values[0]}
	if o.Not {
		m.Op = Neq
	}
	return m
}

func fieldsWithProto(fields []Field, p xfrm.Proto) []Field {
	out := slices.Clone(fields)
	for i := range out {
		out[i] = out[i].withProto(p)
	}
	return out
}

func (f Field) withProto(p xfrm.Proto) Field {
	switch {
	case f.Kind == SrcPort && p == xfrm.UDP:
		f.Kind = UDPSrc
	case f.Kind == DstPort && p == xfrm.UDP:
		f.Kind = UDPDst
	case f.Kind == SrcPort && p == xfrm.TCP:
		f.Kind = TCPSrc
	case f.Kind == DstPort && p == xfrm.TCP:
		f.Kind = TCPDst
	}
	return f
}
