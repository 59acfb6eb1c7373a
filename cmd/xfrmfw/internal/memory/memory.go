// Package memory keeps the pairs of selectors that are guarded beyond their
// policies. guard.Remember decides on its content; here it is read, distrusting
// every byte, and written so that a reader finds the old file or the new one.
//
// It has two places. The state directory outlives a reboot: memory.json has the pairs, in the
// form that all versions read, and memory-clock.json the clock of their times, the names of
// their tunnels and the lines. The run directory keeps the pairs in this network namespace's
// rules, for the time when the state directory is damaged, can't be read or can't be written.
package memory

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
)

// Store is the memory's two places. Its copies are one, and several may use it at a
// time.
type Store struct {
	disk, run place
	// known is the memory read or written last: a running daemon's knowledge outlives both
	// files.
	known  *known
	wall   func() time.Time
	uptime func() (boot string, seconds int64)
}

type known struct {
	mu     sync.Mutex
	guards []guard.Guard
	lines  []guard.Line
}

func (k *known) get() ([]guard.Guard, []guard.Line) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.guards, k.lines
}

func (k *known) set(guards []guard.Guard, lines []guard.Line) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.guards, k.lines = guards, lines
}

// place is the files in a directory that are one memory: the first has the guards, and where
// there is a second, it has the rest.
type place struct {
	dir   string
	names []string
	last  *last
}

// last is the meaning of the text that was read last: to parse it again takes the
// longer the more guards there are, and the daemon reads it at each turn.
type last struct {
	mu   sync.Mutex
	sum  [sha256.Size]byte
	text text
}

// In returns the store of this network namespace in two directories.
func In(dirs rundir.Dirs) (Store, error) {
	copied, err := dirs.File("memory", ".json")
	if err != nil {
		return Store{}, err
	}
	return Store{
		disk:  place{dirs.State, []string{"memory.json", "memory-clock.json"}, new(last)},
		run:   place{dirs.Run, []string{filepath.Base(copied)}, new(last)},
		known: new(known), wall: time.Now, uptime: uptime,
	}, nil
}

// Memory is the content of a store.
type Memory struct {
	// Guards are the pairs, of which those count that expire later than Now. No caller
	// may write to them.
	Guards []guard.Guard
	// Lines are the networks of routes that guards gave way to, of which those count that
	// expire later than Now.
	Lines []guard.Line
	// Now is the time by the memory's own clock, in seconds.
	Now int64
	// Warning names the file that could not be read.
	Warning string
	// stale is true if a file differs from the memory. written is the time of the last
	// write to the state directory.
	stale   bool
	written int64
}

// Ahead is how many seconds the wall clock is ahead of the memory's own, for people.
func (m Memory) Ahead(wall time.Time) int64 { return wall.Unix() - m.Now }

// Load reads the memory. Where the file in the state directory is missing, damaged or
// out of reach, the copy in the run directory counts as well, and so does the memory that this store
// has read or written before. Nothing is written, moved or removed.
func (s Store) Load() Memory {
	boot, up := s.uptime()
	disk, err := s.disk.read()
	head, copyErr := s.run.head()
	m := Memory{Guards: disk.guards, Lines: disk.lines}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		m.Warning = fmt.Sprintf("read memory: %v", err)
	case disk.damage != nil:
		m.Warning = fmt.Sprintf("the memory of guarded pairs is damaged (%v): %s, pairs read from it: %d; the next apply replaces it",
			disk.damage, filepath.Join(s.disk.dir, s.disk.names[0]), len(disk.guards))
	}
	if err != nil || disk.damage != nil || copyErr == nil && !head.saved {
		copied, _ := s.run.read()
		guards, lines := s.known.get()
		m.Guards = guard.MergeMemory(guard.MergeMemory(disk.guards, copied.guards), guards)
		m.Lines = slices.Concat(disk.lines, copied.lines, lines)
		m.stale = m.Warning != "" || len(m.Guards) > 0
	}
	if errors.Is(copyErr, fs.ErrNotExist) && len(m.Guards) > 0 {
		m.stale = true // after a boot, so that the copy is there when the disk fails
	}
	var now clock
	for _, c := range []*clock{disk.clock, head.clock} {
		if c == nil {
			continue
		}
		if c := c.at(boot, up); c.Observed > now.Observed {
			now = c
		}
	}
	if disk.clock != nil {
		m.written = disk.clock.Observed
	}
	if now == (clock{}) {
		now = begin(m.Guards, s.wall().Unix(), boot, up)
	}
	if disk.apart {
		now, m.stale = now.notPast(m.Guards), true
	}
	m.Now = now.Observed
	s.known.set(m.Guards, m.Lines)
	return m
}

// Save replaces the memory, with its clock at now. It makes the state directory if
// there is none. A file that is not understood is kept beside it. After an error the
// run directory has the memory, until the next boot.
func (s Store) Save(guards []guard.Guard, lines []guard.Line, now int64) error {
	s.known.set(guards, lines)
	boot, up := s.uptime()
	f := newFile(guards, lines, &clock{Observed: now, Boot: boot, Uptime: up})
	list, rest, failed := f.split()
	if failed == nil {
		failed = s.disk.write((*rundir.Dir).Replace, list, rest)
	}
	if errors.Is(failed, fs.ErrPermission) {
		failed = fmt.Errorf("%w: %s", failed, rundir.Remedy("--state-dir"))
	}
	f.Saved = failed == nil
	err := s.run.write((*rundir.Dir).Swap, f)
	switch {
	case failed == nil: // the copy is needed when the next one fails
		return nil
	case err == nil:
		return fmt.Errorf("write memory: %w; it is kept in %s until the next boot", failed, s.run.dir)
	}
	return fmt.Errorf("write memory: %w, and %w", failed, err)
}

// read returns the content of the files. The error is one of reading the first.
func (p place) read() (text, error) {
	d, err := rundir.Open(p.dir)
	if err != nil {
		return text{}, err
	}
	defer d.Close()
	var contents [][]byte
	var second error
	sum := sha256.New()
	for i, name := range p.names {
		b, _, err := d.Read(name, maxSize)
		switch {
		case i == 0 && err != nil:
			return text{}, err
		case errors.Is(err, fs.ErrNotExist):
			continue // as versions before the memory had a clock leave it
		case err != nil:
			second = err
			continue
		}
		contents = append(contents, b)
		one := sha256.Sum256(b)
		sum.Write(one[:])
	}
	p.last.mu.Lock()
	defer p.last.mu.Unlock()
	if sum := [sha256.Size]byte(sum.Sum(nil)); p.last.sum != sum {
		p.last.sum, p.last.text = sum, p.parse(contents)
	}
	t := p.last.text
	if t.damage == nil {
		t.damage = second
	}
	return t, nil
}

// head returns the meaning of the one file of a place up to its guards, which take the
// longest and are needed where another place has none.
func (p place) head() (text, error) {
	d, err := rundir.Open(p.dir)
	if err != nil {
		return text{}, err
	}
	defer d.Close()
	b, _, err := d.Read(p.names[0], maxSize)
	if err != nil {
		return text{}, err
	}
	return parseHead(b), nil
}

// parse returns the meaning of the files' contents.
func (p place) parse(contents [][]byte) text {
	t := parse(contents[0])
	if t.damage != nil {
		t.damaged = p.names[:1]
	}
	if len(p.names) > 1 {
		t.clock, t.connections, t.lines = nil, nil, nil
	}
	if len(contents) > 1 {
		rest := parse(contents[1])
		t.clock, t.connections, t.lines = rest.clock, rest.connections, rest.lines
		if t.apart = rest.clock != nil && rest.of != digest(contents[0]); t.apart {
			t.lines = nil
		}
		if rest.damage != nil {
			t.damage = cmp.Or(t.damage, fmt.Errorf("%s: %w", p.names[1], rest.damage))
			t.damaged = append(t.damaged[:len(t.damaged):len(t.damaged)], p.names[1])
		}
	}
	t.name()
	return t
}

// aside ends the name under which a file is kept that was not understood.
const aside = ".damaged"

// write replaces the files.
func (p place) write(write func(*rundir.Dir, string, []byte) error, files ...file) error {
	d, err := rundir.Make(p.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if t, err := p.read(); err == nil {
		for _, name := range t.damaged {
			if err := d.Keep(name, name+aside); err != nil {
				return err
			}
		}
	}
	for i, name := range p.names {
		b, err := files[i].encode()
		if err != nil {
			return err
		}
		if err := write(d, name, b); err != nil {
			return err
		}
		if err := d.Tidy(name); err != nil {
			return err
		}
	}
	return nil
}

const (
	// fresher is how long an entry's end may lag behind, in seconds, so that the file
	// is not written at every look at the kernel.
	fresher = 3600
	// writtenAfter is when the file is written for the sake of its clock alone.
	writtenAfter = 6 * 3600
)

// Changed reports whether guards and lines should be written, as the memory was read.
func (m Memory) Changed(now []guard.Guard, lines []guard.Line) bool {
	if len(m.Guards) != len(now) || linesChanged(m.Lines, lines) || m.stale || len(now) > 0 && m.Now-m.written > writtenAfter {
		return true
	}
	for i := range now {
		a, b := m.Guards[i], now[i]
		if b.Expires-a.Expires > fresher || b.Expires < a.Expires {
			return true
		}
		a.Expires, a.Since = b.Expires, b.Since
		if a != b {
			return true
		}
	}
	return false
}
