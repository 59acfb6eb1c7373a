package rundir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// Record is how the last reconciles ended, for status: when the rules were last
// brought in line with the kernel, by which command, and the failure since. A reboot ends
// it, and the rules.
type Record struct {
	// By is the command that reconciled last: "apply", "hook" or "daemon".
	By string `json:"by"`
	// Reconciled is when the rules were last found or made right, in seconds
	// since the epoch; 0 is never.
	Reconciled int64 `json:"reconciled"`
	// Error is the failure of the last attempt, empty if it did not fail, and
	// Failed when that was.
	Error  string `json:"error,omitempty"`
	Failed int64  `json:"failed,omitzero"`
}

// maxRecord bounds the text of a record; maxError that of an error.
const (
	maxRecord = 64 << 10
	maxError  = 4 << 10
)

// LoadRecord reads the record at path. Without a file, or with one that makes no
// sense, nothing is known, which is the zero Record; the error is one of reading.
func LoadRecord(path string) (Record, error) {
	r, err := loadRecord(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil
	}
	if err != nil {
		return Record{}, fmt.Errorf("read record of the last reconcile: %w", err)
	}
	return r, nil
}

func loadRecord(path string) (Record, error) {
	d, err := Open(filepath.Dir(path))
	if err != nil {
		return Record{}, err
	}
	defer d.Close()
	text, _, err := d.Read(filepath.Base(path), maxRecord)
	if err != nil {
		return Record{}, err
	}
	var r Record
	if json.Unmarshal(text, &r) != nil || r.Reconciled < 0 || r.Failed < 0 {
		return Record{}, nil
	}
	return r, nil
}

// Done notes at path that the rules are right, as of a time in seconds since the
// epoch.
func Done(path, by string, now int64) error {
	return saveRecord(path, Record{By: by, Reconciled: now})
}

// Failed notes at path that a reconcile failed; when the rules were last right
// stays known.
func Failed(path, by string, now int64, why error) error {
	r, err := LoadRecord(path)
	if err != nil {
		r = Record{}
	}
	text := strings.ToValidUTF8(why.Error(), "?")
	if len(text) > maxError {
		text = strings.ToValidUTF8(text[:maxError], "") + " ..."
	}
	r.By, r.Error, r.Failed = by, text, now
	return saveRecord(path, r)
}

func saveRecord(path string, r Record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write record of the last reconcile: %w", err)
	}
	d, err := Open(filepath.Dir(path))
	if err == nil {
		defer d.Close()
		name := filepath.Base(path)
		err = errors.Join(d.Swap(name, append(text, '\n')), d.Tidy(name))
	}
	if err != nil {
		return fmt.Errorf("write record of the last reconcile: %w", err)
	}
	return nil
}
