package status

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

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
	if _, err := w.Write(text.VisibleJSON(form.Bytes())); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}
