package sets

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

func (s Set) appendText(b []byte) []byte {
	kind, data := "set", ""
	if s.Verdicts {
		kind, data = "map", " : verdict"
	}
	b = fmt.Appendf(b, "\t%s %s {\n", kind, s.Name)
	b = fmt.Appendf(b, "\t\ttypeof %s%s\n", concat(s.Key), data)
	if s.Size != 0 {
		b = fmt.Appendf(b, "\t\tsize %d\n", s.Size)
	}
	if flags := s.flags(); flags != "" {
		b = fmt.Appendf(b, "\t\tflags %s\n", flags)
	}
	if s.Counter {
		b = append(b, "\t\tcounter\n"...)
	}
	if s.Timeout != 0 {
		b = fmt.Appendf(b, "\t\ttimeout %s\n", durationText(s.Timeout))
	}
	if s.Comment != "" {
		b = appendComment(append(b, '\t'), s.Comment)
	}
	for i, e := range s.Elements {
		if i == 0 {
			b = append(b, "\t\telements = { "...)
		} else {
			b = append(b, ",\n\t\t\t     "...)
		}
		b = append(b, e.Text(s)...)
	}
	if len(s.Elements) > 0 {
		b = append(b, " }\n"...)
	}
	return append(b, "\t}\n"...)
}

func (s Set) flags() string {
	var words []string
	if s.Interval {
		words = append(words, "interval")
	}
	if s.Dynamic {
		words = append(words, "dynamic")
	}
	if s.Timeout != 0 {
		words = append(words, "timeout")
	}
	return strings.Join(words, ",")
}

// Text returns an element of a set in the language of nft, with its counts if
// there are any.
func (e Element) Text(s Set) string {
	var b strings.Builder
	b.WriteString(e.KeyText(s.Key))
	if e.Count != (Count{}) {
		b.WriteString(" counter" + e.Count.text())
	}
	if e.Comment != "" {
		b.WriteString(` comment "` + e.Comment + `"`)
	}
	if s.Verdicts {
		b.WriteString(" : " + e.Verdict.String())
	}
	return b.String()
}

// KeyText returns the key, or the range of keys, of an element of a set with
// these fields.
func (e Element) KeyText(fields []Field) string {
	first := e.Key.Values(fields)
	if first == nil {
		return fmt.Sprintf("%#x", string(e.Key))
	}
	last := first
	if e.Last != "" {
		if last = e.Last.Values(fields); last == nil {
			return fmt.Sprintf("%#x", string(e.Last))
		}
	}
	words := make([]string, len(first))
	for i, f := range fields {
		words[i] = rangeText(f.Type(), first[i], last[i])
	}
	return strings.Join(words, " . ")
}

func rangeText(t Type, first, last Value) string {
	text := first.text(t)
	if first == last {
		return text
	}
	if t == TypeIPv4 || t == TypeIPv6 {
		a, _ := netip.AddrFromSlice(first.bytes[:first.size])
		if p, ok := prefixOf(a, last); ok {
			return p.String()
		}
	}
	return text + "-" + last.text(t)
}

// prefixOf returns the prefix of the addresses from a to last.
func prefixOf(a netip.Addr, last Value) (netip.Prefix, bool) {
	first := a.AsSlice()
	length := 0
	for i, b := range first {
		if same := bits.LeadingZeros8(b ^ last.bytes[i]); same < 8 {
			length = i*8 + same
			break
		}
		length = i*8 + 8
	}
	p := netip.PrefixFrom(a, length)
	return p, p.Masked() == p && LastAddr(p).String() == last.text(typeOf(a))
}

func typeOf(a netip.Addr) Type {
	if a.Is4() {
		return TypeIPv4
	}
	return TypeIPv6
}
