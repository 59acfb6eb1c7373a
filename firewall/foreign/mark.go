package foreign

import (
	"slices"
	"strings"
)

// Mark is a statement that writes the packet's mark.
type Mark struct {
	Chain  string
	Handle int
	// Writes are the bits that it may change, Sets those that it may set.
	Writes, Sets uint32
}

// Marks are the statements of the table that write the packet's mark.
func (t Table) Marks() []Mark {
	var found []Mark
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			for _, e := range r.expr {
				kind, v := only(e)
				if kind != "mangle" {
					continue
				}
				if target, what := only(field(v, "key")); target != "meta" || field(what, "key") != "mark" {
					continue
				}
				keeps, sets := written(field(v, "value"))
				found = append(found, Mark{c.Name, r.Handle, ^keeps | sets, sets})
			}
		}
	}
	return found
}

// written tells which bits of the mark an expression keeps, and which it may set.
func written(v any) (keeps, sets uint32) {
	if n, ok := number(v); ok {
		return 0, n
	}
	kind, operands := only(v)
	if kind == "meta" && field(operands, "key") == "mark" {
		return ^uint32(0), 0
	}
	pair, _ := operands.([]any)
	if len(pair) != 2 {
		return 0, ^uint32(0)
	}
	n, ok := number(pair[1])
	if !ok {
		return 0, ^uint32(0)
	}
	keeps, sets = written(pair[0])
	switch kind {
	case "&":
		return keeps & n, sets & n
	case "|":
		return keeps | n, sets | n
	case "^":
		return keeps &^ n, sets | n
	}
	return 0, ^uint32(0)
}

// MatchesMark reports whether a rule of the table asks for a bit of the mark.
func (t Table) MatchesMark(bit uint32) bool {
	w := walker{table: t, packet: Packet{Mark: bit, Known: ^uint32(0)}}
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			for _, e := range r.expr {
				kind, v := only(e)
				if kind != "match" {
					continue
				}
				if b, ok := w.value(field(v, "left")).(bits); ok && asksMark(field(v, "left")) && b.value == bit && w.match(v) == yes {
					return true
				}
			}
		}
	}
	return false
}

// MayAskMark reports whether a rule of the table may decide by a bit of the mark.
func (t Table) MayAskMark(bit uint32) bool {
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			for _, e := range r.expr {
				// A jump to a chain without a name is a text.
				if kind, v := only(e); kind != "mangle" && readsMark(v, bit) || strings.Contains(kind, " mark ") {
					return true
				}
			}
		}
	}
	return false
}

// readsMark reports whether a bit of the mark is a part of a value.
func readsMark(v any, bit uint32) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, func(one any) bool { return readsMark(one, bit) })
	case map[string]any:
		for key, value := range v {
			if pair, _ := value.([]any); key == "&" && len(pair) == 2 {
				if mask, ok := number(pair[1]); ok && mask&bit == 0 {
					continue
				}
			}
			if key == "meta" && field(value, "key") == "mark" || readsMark(value, bit) {
				return true
			}
		}
	}
	return false
}

func asksMark(left any) bool {
	kind, v := only(left)
	if kind == "&" {
		if pair, _ := v.([]any); len(pair) == 2 {
			return asksMark(pair[0])
		}
	}
	return kind == "meta" && field(v, "key") == "mark"
}
