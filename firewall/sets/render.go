package sets

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// AppendText appends the table in the language of nft, in order and with the
// counts that are not zero. It is meant for people and tests: xfrmfw itself loads
// tables by netlink. A table that does not exist is no text.
func (t Table) AppendText(b []byte) []byte {
	if t.Name == "" {
		return b
	}
	b = append(append(append(b, "table inet "...), t.Name...), " {\n"...)
	b = appendComment(b, t.Comment)
	if words := t.Flags.String(); words != "" {
		b = append(append(append(b, "\tflags "...), words...), '\n')
	}
	for _, s := range t.Sets {
		b = s.appendText(b)
	}
	for _, c := range t.Chains {
		b = c.appendText(b)
	}
	return append(b, "}\n"...)
}

// String returns the table in the language of nft.
func (t Table) String() string { return string(t.AppendText(nil)) }

var flagNames = []valueName{{uint64(Dormant), "dormant"}, {uint64(Owner), "owner"}, {uint64(Persist), "persist"}}

// String returns the words of nft.
func (f TableFlags) String() string {
	if f == 0 {
		return ""
	}
	return bitNames(flagNames, uint64(f), ",")
}

func appendComment(b []byte, comment string) []byte {
	if comment == "" {
		return b
	}
	return append(append(append(b, "\tcomment \""...), comment...), "\"\n"...)
}

func (c Chain) appendText(b []byte) []byte {
	b = append(append(append(b, "\tchain "...), c.Name...), " {\n"...)
	if c.Comment != "" {
		b = appendComment(append(b, '\t'), c.Comment)
	}
	if c.Base.Type != Regular {
		b = append(append(append(b, "\t\t"...), c.Base.String()...), '\n')
	}
	for _, r := range c.Rules {
		b = append(append(append(b, "\t\t"...), r.String()...), '\n')
	}
	return append(b, "\t}\n"...)
}

// String returns the words of nft.
func (b Base) String() string {
	return fmt.Sprintf("type %s hook %s priority %d; policy %s;", b.Type, b.Hook, b.Priority, b.Policy)
}

// String returns the rule in the language of nft, with its counts if there are
// any.
func (r Rule) String() string {
	words := make([]string, 0, len(r.Terms)+1)
	for _, t := range r.Terms {
		word := t.String()
		if _, ok := t.(Counter); ok && r.Count != (Count{}) {
			word += r.Count.text()
		}
		words = append(words, word)
	}
	if r.Comment != "" {
		words = append(words, `comment "`+r.Comment+`"`)
	}
	return strings.Join(words, " ")
}

func (c Count) text() string { return fmt.Sprintf(" packets %d bytes %d", c.Packets, c.Bytes) }

// String returns the words of nft.
func (m Match) String() string {
	f, t := m.Field.unmasked(), m.Field.Type()
	named := t < numTypes && types[t].bits
	value := m.Value.text(t)
	switch {
	case (t == TypeBool || t == TypeFound) && m.Op == Eq && m.Mask == 0:
		return f + " " + value
	case named && m.Mask != 0 && m.Op == Neq && m.Value.Uint() == 0:
		return f + " " + bitNames(types[t].names, uint64(m.Mask), ",")
	case m.Mask != 0:
		return fmt.Sprintf("%s & %s %s %s", f, maskText(t, m.Mask), m.Op, value)
	case m.Field.Clear != 0:
		value += "/" + strconv.Itoa(t.Size()*8-int(m.Field.Clear))
	}
	if m.Op == Eq && !named {
		return f + " " + value
	}
	return f + " " + m.Op.String() + " " + value
}

// maskText writes a mask with the type's names of bits, in parentheses where
// there are several.
func maskText(t Type, mask uint32) string {
	text := Number(t, uint64(mask)).text(t)
	if t == TypeCtDirection || !types[t].bits {
		return fmt.Sprintf("%#x", mask)
	}
	if strings.Contains(text, "|") {
		return "(" + text + ")"
	}
	return text
}

// unmasked returns the words of a field without the mask.
func (f Field) unmasked() string {
	f.Clear = 0
	return f.String()
}

// String returns the words of nft.
func (r Range) String() string {
	t := r.Field.Type()
	return fmt.Sprintf("%s %s%s-%s", r.Field.unmasked(), not(r.Not), r.Low.text(t), r.High.text(t))
}

// String returns the words of nft.
func (o OneOf) String() string {
	t := o.Field.Type()
	words := make([]string, len(o.Values))
	for i, v := range o.Values {
		words[i] = v.text(t)
	}
	return fmt.Sprintf("%s %s{ %s }", o.Field, not(o.Not), strings.Join(words, ", "))
}

func not(is bool) string {
	if is {
		return "!= "
	}
	return ""
}

// String returns the words of nft.
func (i In) String() string { return concat(i.Fields) + " " + not(i.Not) + "@" + i.Set }

// String returns the words of nft.
func (d Dispatch) String() string { return concat(d.Fields) + " vmap @" + d.Map }

// String returns the words of nft.
func (u Update) String() string {
	verb, timeout := "update", ""
	if u.Add {
		verb = "add"
	}
	if u.Timeout != 0 {
		timeout = " timeout " + durationText(u.Timeout)
	}
	return fmt.Sprintf("%s @%s { %s%s }", verb, u.Set, concat(u.Fields), timeout)
}

func concat(fields []Field) string {
	words := make([]string, len(fields))
	for i, f := range fields {
		words[i] = f.String()
	}
	return strings.Join(words, " . ")
}

// String returns the words of nft.
func (s SetMark) String() string {
	value := s.Value & s.Mask
	const set = "meta mark set "
	switch {
	case s.Mask == ^uint32(0):
		return fmt.Sprintf(set+"0x%08x", value)
	case value == s.Mask:
		return fmt.Sprintf(set+"meta mark | 0x%08x", value)
	case value == 0:
		return fmt.Sprintf(set+"meta mark & 0x%08x", ^s.Mask)
	}
	return fmt.Sprintf(set+"meta mark & 0x%08x | 0x%08x", ^s.Mask, value)
}

// String returns the words of nft.
func (m MaxSeg) String() string {
	if m.Size == 0 {
		return "tcp option maxseg size set rt mtu"
	}
	return fmt.Sprintf("tcp option maxseg size set %d", m.Size)
}

// String returns the keyword of nft.
func (Counter) String() string { return "counter" }

// String returns the words of nft.
func (l Log) String() string {
	words := "log"
	if l.Prefix != "" {
		words += ` prefix "` + l.Prefix + `"`
	}
	if l.ToGroup {
		words += fmt.Sprintf(" group %d", l.Group)
	}
	return words
}

var units = []struct {
	per  time.Duration
	name string
}{{time.Second, "second"}, {time.Minute, "minute"}, {time.Hour, "hour"}, {24 * time.Hour, "day"}, {7 * 24 * time.Hour, "week"}}

// unitName returns the keyword of nft for a unit of time, or nothing.
func unitName(per time.Duration) string {
	for _, u := range units {
		if u.per == per {
			return u.name
		}
	}
	return ""
}

// String returns the words of nft.
func (l Limit) String() string {
	unit := cmp.Or(unitName(l.Per), l.Per.String())
	over := ""
	if l.Over {
		over = "over "
	}
	return fmt.Sprintf("limit rate %s%d/%s burst %d packets", over, l.Rate, unit, l.Burst)
}

// String returns the words of nft.
func (r Reject) String() string { return "reject with " + r.With.String() }

// String returns the words of nft.
func (s SNAT) String() string {
	family := "ip"
	if s.To.Type() == TypeIPv6 {
		family = "ip6"
	}
	return "snat " + family + " to " + s.To.String()
}

// String returns the words of nft.
func (v Verdict) String() string {
	if v.Do == Jump || v.Do == Goto {
		return v.Do.String() + " " + v.Chain
	}
	return v.Do.String()
}

// String names the expression.
func (u Unknown) String() string { return "unknown expression " + strconv.Quote(u.Expression) }

func durationText(d time.Duration) string {
	if d%time.Second == 0 {
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}
