package status

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
)

// WriteJSON writes the report as indented JSON with a newline at the end. Every
// character that a terminal might act on is written as \uNNNN.
func (r Report) WriteJSON(w io.Writer) error { return r.writeJSON(w, "  ") }

// WriteJSONLine writes the report as JSON on one line.
func (r Report) WriteJSONLine(w io.Writer) error { return r.writeJSON(w, "") }

func (r Report) writeJSON(w io.Writer, indent string) error {
	var form bytes.Buffer
	e := json.NewEncoder(&form)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	if _, err := w.Write(visible(form.Bytes())); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}

// visible escapes what is not visible in JSON. encoding/json does so for the
// control characters of ASCII only, and all others can only stand in strings.
func visible(form []byte) []byte {
	out := make([]byte, 0, len(form))
	for i := 0; i < len(form); {
		if c := form[i]; c < 0x7f {
			out = append(out, c)
			i++
			continue
		}
		r, size := utf8.DecodeRune(form[i:])
		switch {
		case r >= 0x10000 && text.Unseen(r):
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		case text.Unseen(r):
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, form[i:i+size]...)
		}
		i += size
	}
	return out
}
