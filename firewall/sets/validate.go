package sets

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The kernel's and nft's limits.
const (
	maxName    = 255 // NFT_NAME_MAXLEN, without the end
	maxComment = 127 // NFTNL_UDATA_COMMENT_MAXLEN, without the end
	maxPrefix  = 127 // NF_LOG_PREFIXLEN, without the end
	maxKey     = 64  // NFT_DATA_VALUE_MAXLEN
)

// Validate returns an error if the kernel would refuse the table or if its text
// could mean anything else than its values.
func (t Table) Validate() error {
	if err := validName(t.Name); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	if err := validComment(t.Comment); err != nil {
		return fmt.Errorf("table %s: %w", t.Name, err)
	}
	v := validator{sets: make(map[string]*Set, len(t.Sets)), chains: make(map[string]*Chain, len(t.Chains))}
	for i := range t.Sets {
		s := &t.Sets[i]
		if v.sets[s.Name] != nil {
			return fmt.Errorf("set %s: there are two of the name", s.Name)
		}
		v.sets[s.Name] = s
	}
	for i := range t.Chains {
		c := &t.Chains[i]
		if v.chains[c.Name] != nil {
			return fmt.Errorf("chain %s: there are two of the name", c.Name)
		}
		v.chains[c.Name] = c
	}
	for i := range t.Sets {
		if err := v.set(&t.Sets[i]); err != nil {
			return fmt.Errorf("set %s: %w", t.Sets[i].Name, err)
		}
	}
	for i := range t.Chains {
		if err := v.chain(&t.Chains[i]); err != nil {
			return fmt.Errorf("chain %s: %w", t.Chains[i].Name, err)
		}
	}
	return nil
}

type validator struct {
	sets   map[string]*Set
	chains map[string]*Chain
}

func validName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("name %q: want 1 to %d characters", name, maxName)
	}
	for i, r := range name {
		if !(r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || i > 0 && (r >= '0' && r <= '9' || r == '-' || r == '.')) {
			return fmt.Errorf("name %q: want a letter first, and letters, digits, _, - and . behind it", name)
		}
	}
	return nil
}

func validComment(comment string) error { return validText("comment", comment, maxComment) }

// validText refuses text that would end its quotes or its line.
func validText(what, text string, most int) error {
	if len(text) > most {
		return fmt.Errorf("%s %q: longer than %d bytes", what, text, most)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f || r == '"' || r == '\\' }); i >= 0 {
		return fmt.Errorf("%s %q: want printable ASCII without quotes and backslashes", what, text)
	}
	return nil
}

func (v *validator) set(s *Set) error {
	if err := firstError(validName(s.Name), validComment(s.Comment)); err != nil {
		return err
	}
	if len(s.Key) == 0 || KeySize(s.Key) > maxKey {
		return fmt.Errorf("a key of %d fields and %d bytes: want at least one field and at most %d bytes", len(s.Key), KeySize(s.Key), maxKey)
	}
	for _, f := range s.Key {
		if err := validField(f); err != nil {
			return err
		}
		if f.Clear != 0 {
			return fmt.Errorf("field %s: a set has whole values", f)
		}
	}
	if s.Interval && s.Dynamic {
		return errors.New("rules can't add intervals")
	}
	if s.Timeout%time.Millisecond != 0 || s.Timeout < 0 {
		return fmt.Errorf("timeout %s: want whole milliseconds", s.Timeout)
	}
	for i, e := range s.Elements {
		if err := v.element(s, e); err != nil {
			return fmt.Errorf("element %s: %w", e.KeyText(s.Key), err)
		}
		if i > 0 && s.Elements[i-1].Compare(e) >= 0 {
			return fmt.Errorf("element %s: twice or out of order", e.KeyText(s.Key))
		}
	}
	return nil
}

func (v *validator) element(s *Set, e Element) error {
	if err := validComment(e.Comment); err != nil {
		return err
	}
	size := KeySize(s.Key)
	if len(e.Key) != size || s.Interval != (e.Last != "") || e.Last != "" && len(e.Last) != size {
		return fmt.Errorf("want a key of %d bytes, and its last key in a set of intervals alone", size)
	}
	if s.Interval {
		first, last := e.Key.Values(s.Key), e.Last.Values(s.Key)
		for i := range first {
			if string(first[i].bytes[:]) > string(last[i].bytes[:]) {
				return errors.New("ends before it begins")
			}
		}
	}
	if s.Verdicts != (e.Verdict.Do != NoVerdict) {
		return errors.New("want a verdict in a map alone")
	}
	return v.verdict(e.Verdict)
}

func (v *validator) chain(c *Chain) error {
	if err := firstError(validName(c.Name), validComment(c.Comment)); err != nil {
		return err
	}
	if int(c.Base.Type) >= len(chainTypeNames) || int(c.Base.Hook) >= len(hookNames) || int(c.Base.Policy) >= len(policyNames) {
		return fmt.Errorf("unknown base %+v", c.Base)
	}
	for i, r := range c.Rules {
		if err := v.rule(r); err != nil {
			return fmt.Errorf("rule %d, %s: %w", i+1, r, err)
		}
	}
	return nil
}

func (v *validator) rule(r Rule) error {
	if err := validComment(r.Comment); err != nil {
		return err
	}
	for i, t := range r.Terms {
		if t == nil {
			return errors.New("a term is missing")
		}
		for _, f := range t.fields() {
			if err := validField(f); err != nil {
				return err
			}
		}
		if err := v.term(t); err != nil {
			return err
		}
		switch t.(type) {
		case Verdict, Reject, Dispatch, SNAT:
			if i != len(r.Terms)-1 {
				return fmt.Errorf("%s ends the rule, and more terms follow", t)
			}
		}
	}
	return nil
}

func validField(f Field) error {
	switch {
	case f.Kind == 0 || f.Kind >= numFieldKinds:
		return fmt.Errorf("unknown field %d", f.Kind)
	case f.Depth != 0 && !f.OfSA():
		return fmt.Errorf("field %s has no depth", f)
	case f.Clear != 0 && f.Type() != TypeIPv4 && f.Type() != TypeIPv6:
		return fmt.Errorf("field %s is no address with a prefix", f.unmasked())
	case int(f.Clear) > f.Type().Size()*8:
		return fmt.Errorf("field %s has no %d bits", f.unmasked(), f.Clear)
	}
	return nil
}

func (v *validator) term(t Term) error {
	switch t := t.(type) {
	case Match:
		return t.validate()
	case Range:
		if t.Field.Type().HostOrder() || t.Field.Clear != 0 {
			return fmt.Errorf("field %s can't be compared with a range", t.Field)
		}
		return firstError(validValue(t.Field, t.Low), validValue(t.Field, t.High))
	case OneOf:
		if len(t.Values) == 0 {
			return errors.New("no values")
		}
		for i, value := range t.Values {
			if err := validValue(t.Field, value); err != nil {
				return err
			}
			if slices.Contains(t.Values[:i], value) {
				return fmt.Errorf("value %s is there twice", value.text(t.Field.Type()))
			}
		}
	case In:
		return v.lookup(t.Fields, t.Set, func(s *Set) bool { return !s.Verdicts }, "a set")
	case Dispatch:
		return v.lookup(t.Fields, t.Map, func(s *Set) bool { return s.Verdicts }, "a map of verdicts")
	case Update:
		if t.Timeout%time.Millisecond != 0 || t.Timeout < 0 {
			return fmt.Errorf("timeout %s: want whole milliseconds", t.Timeout)
		}
		return v.lookup(t.Fields, t.Set, func(s *Set) bool { return s.Dynamic && !s.Verdicts }, "a dynamic set")
	case SetMark:
		if t.Value&^t.Mask != 0 || t.Mask == 0 {
			return fmt.Errorf("value %#x has bits outside of mask %#x", t.Value, t.Mask)
		}
	case Log:
		return validText("log prefix", t.Prefix, maxPrefix)
	case Limit:
		if t.Rate == 0 || t.Burst == 0 || unitName(t.Per) == "" {
			return errors.New("want a rate and a burst above zero, and a second, minute, hour, day or week")
		}
	case Reject:
		if int(t.With) >= len(rejectNames) {
			return fmt.Errorf("unknown reject %d", t.With)
		}
	case SNAT:
		if typ := t.To.Type(); typ != TypeIPv4 && typ != TypeIPv6 || t.To.Clear != 0 {
			return fmt.Errorf("field %s is no address", t.To)
		}
	case Verdict:
		if t.Do == NoVerdict {
			return errors.New("a verdict is missing")
		}
		return v.verdict(t)
	case Unknown:
		return errors.New("can't be written")
	}
	return nil
}

func (m Match) validate() error {
	size := m.Field.Type().Size()
	if int(m.Op) >= len(opNames) {
		return fmt.Errorf("unknown comparison %d", m.Op)
	}
	if m.Mask != 0 && (size > 4 || m.Field.Clear != 0 || uint64(m.Mask) >= 1<<(8*size)) {
		return fmt.Errorf("field %s has no bits %#x", m.Field, m.Mask)
	}
	if m.Op > Neq && (m.Field.Type().HostOrder() || m.Mask != 0 || m.Field.Clear != 0) {
		return fmt.Errorf("field %s can't be compared by size", m.Field)
	}
	return validValue(m.Field, m.Value)
}

// validValue checks the size of a value, and the text of a name.
func validValue(f Field, v Value) error {
	size := f.Type().Size()
	switch f.Type() {
	case TypeName, TypeLinkKind:
		name, _, _ := strings.Cut(string(v.bytes[:v.size]), "\x00")
		if name == "" {
			return errors.New("an empty name")
		}
		return validText("name", name, size-1)
	}
	if int(v.size) != size {
		return fmt.Errorf("field %s with value %s: want %d bytes", f, v, size)
	}
	mask := maskOf(f)
	for i := range v.bytes[:v.size] {
		if v.bytes[i]&^mask.bytes[i] != 0 {
			return fmt.Errorf("value %s has bits that field %s clears", v.text(f.Type()), f)
		}
	}
	return nil
}

func (v *validator) lookup(fields []Field, name string, fits func(*Set) bool, want string) error {
	s := v.sets[name]
	if s == nil || !fits(s) {
		return fmt.Errorf("%s is not %s of the table", name, want)
	}
	same := slices.EqualFunc(fields, s.Key, func(a, b Field) bool { return a.Type() == b.Type() })
	if !same {
		return fmt.Errorf("fields %s are not of the types of %s, which are those of %s", concat(fields), name, concat(s.Key))
	}
	return nil
}

func (v *validator) verdict(d Verdict) error {
	if int(d.Do) >= len(verdictNames) {
		return fmt.Errorf("unknown verdict %d", d.Do)
	}
	jumps := d.Do == Jump || d.Do == Goto
	if jumps != (d.Chain != "") {
		return fmt.Errorf("verdict %s: want a chain for jump and goto alone", d)
	}
	if jumps && (v.chains[d.Chain] == nil || v.chains[d.Chain].Base.Type != Regular) {
		return fmt.Errorf("verdict %s: not a regular chain of the table", d)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
