package text

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// WriteJSON writes a value as indented JSON without a character that could act on a
// terminal.
func WriteJSON(w io.Writer, value any) error {
	var form bytes.Buffer
	e := json.NewEncoder(&form)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	if _, err := w.Write(VisibleJSON(form.Bytes())); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// VisibleJSON escapes the characters of JSON that have no shape of their own.
// encoding/json does so for the control characters of ASCII only, and all others can only
// be part of strings.
func VisibleJSON(form []byte) []byte {
	out := make([]byte, 0, len(form))
	for i := 0; i < len(form); {
		if c := form[i]; c < 0x7f {
			out = append(out, c)
			i++
			continue
		}
		r, size := utf8.DecodeRune(form[i:])
		switch {
		case r >= 0x10000 && Unseen(r):
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		case Unseen(r):
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, form[i:i+size]...)
		}
		i += size
	}
	return out
}

// OrNull is a word that is null in JSON where it is empty.
type OrNull string

// MarshalJSON implements json.Marshaler.
func (w OrNull) MarshalJSON() ([]byte, error) {
	if w == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(w))
}
