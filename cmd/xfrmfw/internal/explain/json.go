package explain

import (
	"encoding/json"
	"fmt"
	"io"
)

// WriteJSON writes the explanation as indented JSON.
func (e Explanation) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(e); err != nil {
		return fmt.Errorf("write explanation: %w", err)
	}
	return nil
}
