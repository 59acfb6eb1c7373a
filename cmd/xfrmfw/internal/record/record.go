// Package record keeps word of the last reconcile in the run directory, for
// status: when the rules were last brought in line with the kernel, by whom, and
// what went wrong since. It does not outlive a reboot; nor do the rules.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/atomicfile"
)

// Record is how the last reconciles ended.
type Record struct {
	// By is the command that reconciled last: "apply", "hook" or "daemon".
	By string `json:"by"`
	// Reconciled is when the rules were last found or made right, in seconds
	// since the epoch; 0 is never.
	Reconciled int64 `json:"reconciled"`
	// Error is what the last attempt failed with, empty if it did not, and
	// Failed when that was.
	Error  string `json:"error,omitempty"`
	Failed int64  `json:"failed,omitzero"`
}

// maxSize bounds what is read; maxError what is written of an error.
const (
	maxSize  = 64 << 10
	maxError = 4 << 10
)

// Load reads the record at path. Without a file, or with one that makes no
// sense, nothing is known, which is the zero Record; the error is one of reading.
func Load(path string) (Record, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil
	}
	if err != nil {
		return Record{}, fmt.Errorf("read record of the last reconcile: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxSize))
	if err != nil {
		return Record{}, fmt.Errorf("read record of the last reconcile: %w", err)
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
	return save(path, Record{By: by, Reconciled: now})
}

// Failed notes at path that a reconcile failed; when the rules were last right
// stays known.
func Failed(path, by string, now int64, why error) error {
	r, err := Load(path)
	if err != nil {
		r = Record{}
	}
	text := strings.ToValidUTF8(why.Error(), "?")
	if len(text) > maxError {
		text = strings.ToValidUTF8(text[:maxError], "") + " ..."
	}
	r.By, r.Error, r.Failed = by, text, now
	return save(path, r)
}

func save(path string, r Record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write record of the last reconcile: %w", err)
	}
	if err := atomicfile.Swap(path, append(text, '\n')); err != nil {
		return fmt.Errorf("write record of the last reconcile: %w", err)
	}
	return nil
}
