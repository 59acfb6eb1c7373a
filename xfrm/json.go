package xfrm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// maxJSON bounds the input of ReadJSON: some 500,000 states.
const maxJSON = 512 << 20

// ReadJSON reads one snapshot, as WriteJSON writes it, and nothing behind it.
// The input is not trusted: unknown keys, another schema, more than 512 MiB and
// everything that Snapshot.Validate refuses are errors.
func ReadJSON(r io.Reader) (Snapshot, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxJSON+1))
	if err != nil {
		return Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	if len(text) > maxJSON {
		return Snapshot{}, fmt.Errorf("read snapshot: more than %d bytes", maxJSON)
	}
	// A file of another schema may well have keys that are not known here, so
	// the schema is judged first. This also refuses text behind the snapshot.
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	if head.Schema != SchemaVersion {
		return Snapshot{}, fmt.Errorf("read snapshot: schema %d is not the supported %d", head.Schema, SchemaVersion)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var s Snapshot
	if err := d.Decode(&s); err != nil {
		return Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	if err := s.Validate(); err != nil {
		return Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	return s, nil
}

// WriteJSON writes the snapshot as indented JSON with a newline at the end. The
// bytes depend on the order of its lists, so Sort it first. An error is w's own.
func (s Snapshot) WriteJSON(w io.Writer) error {
	if s.States == nil {
		s.States = []State{}
	}
	if s.Policies == nil {
		s.Policies = []Policy{}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}
