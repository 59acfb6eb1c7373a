// Package approved keeps the configuration that was in force last. It also keeps whether
// the present content of the file was applied with --confirm and not confirmed. Daemon,
// hook and apply --unattended then use the configuration that was in force last, because
// rules and configuration are confirmed, or rolled back, together.
package approved

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
)

// Text is the text of a configuration file, or that there is none.
type Text struct {
	Absent bool   `json:"absent,omitzero"`
	Text   string `json:"text"`
}

// entry is the approved content of one configuration file.
type entry struct {
	Path string `json:"path"`
	// Approved was in force last, nil if that is not known. Held waits for its
	// confirmation, or was rolled back; nil if none does.
	Approved *Text `json:"approved,omitempty"`
	Held     *Text `json:"held,omitempty"`
}

const (
	name   = "configuration.json"
	schema = 1
	// maxFiles and maxSize bound the kept files.
	maxFiles = 8
	maxSize  = 128 << 20
)

type file struct {
	Schema int     `json:"schema"`
	Files  []entry `json:"files"`
}

// Store is the file in a state directory. Writers hold the lock of apply.
type Store struct{ dir string }

// In returns the store of a state directory.
func In(stateDir string) Store { return Store{stateDir} }

// Held reports whether the configuration at path, as it is now, is not confirmed, and
// returns the one that was in force before, nil if there was none.
func (s Store) Held(path string, now Text) (before *Text, held bool, err error) {
	f, err := s.read()
	if err != nil {
		return nil, false, err
	}
	if e := f.entry(path); e != nil && e.Held != nil && *e.Held == now {
		return e.Approved, true, nil
	}
	return nil, false, nil
}

// Hold notes that the configuration at path is put in force until it is confirmed. One
// that was approved needs no confirmation.
func (s Store) Hold(path string, now Text) error {
	return s.change(path, func(e *entry) {
		if e.Held = &now; e.Approved != nil && *e.Approved == now {
			e.Held = nil
		}
	})
}

// Approve notes that the configuration at path is in force.
func (s Store) Approve(path string, now Text) error {
	return s.change(path, func(e *entry) { e.Approved, e.Held = &now, nil })
}

// Confirm approves the held content of the configuration at path, as it was put in force.
func (s Store) Confirm(path string) error {
	return s.change(path, func(e *entry) {
		if e.Held != nil {
			e.Approved, e.Held = e.Held, nil
		}
	})
}

// change changes the entry of a path, which becomes the newest. It writes nothing if the
// entry stays as it was.
func (s Store) change(path string, change func(*entry)) error {
	f, err := s.read()
	if err != nil {
		return err
	}
	before := entry{Path: path}
	if e := f.entry(path); e != nil {
		before = *e
	}
	after := before
	change(&after)
	if same(before.Approved, after.Approved) && same(before.Held, after.Held) {
		return nil
	}
	f.Files = slices.DeleteFunc(f.Files, func(e entry) bool { return e.Path == path })
	f.Files = slices.Insert(f.Files, 0, after)
	f.Files = f.Files[:min(len(f.Files), maxFiles)]
	f.Schema = schema
	text, err := json.MarshalIndent(f, "", " ")
	if err == nil {
		err = s.write(text)
	}
	if err != nil {
		return fmt.Errorf("keep the configuration: %w", err)
	}
	return nil
}

func same(a, b *Text) bool { return a == b || a != nil && b != nil && *a == *b }

func (f *file) entry(path string) *entry {
	for i := range f.Files {
		if f.Files[i].Path == path {
			return &f.Files[i]
		}
	}
	return nil
}

// read returns the kept entries. A file that makes no sense holds nothing.
func (s Store) read() (file, error) {
	var f file
	d, err := rundir.Open(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("read the confirmed configuration: %w", err)
	}
	defer d.Close()
	text, _, err := d.Read(name, maxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("read the confirmed configuration: %w", err)
	}
	if json.Unmarshal(text, &f) != nil {
		return file{}, nil
	}
	return f, nil
}

func (s Store) write(text []byte) error {
	d, err := rundir.Make(s.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return errors.Join(d.Replace(name, append(text, '\n')), d.Tidy(name))
}
