package peers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
)

// Store is a directory with a small file for each record, so that hooks which
// run at once don't wait for each other. It belongs below /run: a record of an
// earlier boot is never read.
type Store struct {
	path string
	// now is the time since the boot: a wall clock may be set.
	now  func() time.Duration
	boot string
	// mu guards the rest: a step ahead may load the records while a look does.
	mu sync.Mutex
	// seen are the records that were read before, by file, and loaded the result they
	// came to when the directory was as stamp says.
	seen   map[string]cached
	loaded []Record
	warned []string
	stamp  stamp
	// full are the shares without room when the records were loaded.
	full []Share
	// damaged are the files that were no records when they were loaded.
	damaged []string
}

// stamp changes when a file of a directory is added, replaced or removed. The zero value
// fits none.
type stamp struct {
	inode   uint64
	changed unix.Timespec
}

// stampOf returns the directory's stamp as it is now, or none if that may be the
// same after the next change: the kernel's clock for files is a coarse one.
func stampOf(d *rundir.Dir) stamp {
	st, err := d.Here()
	if age := time.Since(time.Unix(st.Mtim.Unix())); err != nil || age > 0 && age < time.Second {
		return stamp{}
	}
	return stamp{st.Ino, st.Mtim}
}

type cached struct {
	inode   uint64
	changed unix.Timespec
	record  Record
}

// In returns the store in a directory, which need not be there.
func In(path string) *Store { return newStore(path, SinceBoot, bootID()) }

func newStore(path string, now func() time.Duration, boot string) *Store {
	return &Store{path: path, now: now, boot: boot, seen: make(map[string]cached)}
}

// SinceBoot is the clock of records: the kernel's monotonic one.
func SinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// open opens the directory, and makes it if it is missing and that is asked for.
func (s *Store) open(make bool) (*rundir.Dir, error) {
	open, sub := rundir.Open, (*rundir.Dir).Sub
	if make {
		open, sub = rundir.Make, (*rundir.Dir).MakeSub
	}
	parent, err := open(filepath.Dir(s.path))
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	return sub(parent, filepath.Base(s.path))
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return clean(strings.TrimSpace(string(id)))
}

const (
	ending = ".json"
	// aside begins the name of a damaged file.
	aside = "damaged-"
	// maxSize bounds the records of hooks that are kept and read.
	maxSize = 8 << 10
	// lockPatience is how long a hook waits for another one's few microseconds.
	lockPatience = 100 * time.Millisecond
)

// Put keeps the record of a pair that came up.
func (s *Store) Put(r Record) error {
	if err := s.put(r); err != nil {
		return fmt.Errorf("record the peer: %w", err)
	}
	return nil
}

func (s *Store) put(r Record) error {
	d, err := s.open(true)
	if err != nil {
		return err
	}
	defer d.Close()
	r.Boot, r.Time = s.boot, int64(s.now())
	text, err := r.encode()
	if err != nil {
		return err
	}
	name := r.name() + ending
	if !d.Exists(name) {
		names, _, err := list(d)
		if err != nil {
			return err
		}
		if full := fullShares(names, r.share()); len(full) > 0 {
			return fmt.Errorf("there are %d %s in %s already: this peer stays unknown for %s <-> %s", full[0].Count, full[0].kind(), s.path, r.Local, r.Remote)
		}
	}
	// Only a command that removes the file at the same time makes a lock necessary.
	// If it can't be had soon, a record that may be lost is better than none.
	if unlock, err := s.lock(); err == nil {
		defer unlock()
	}
	if err := d.Swap(name, text); err != nil {
		return err
	}
	return d.RemoveIfAny(r.formerName() + ending)
}

// Down removes the record of a pair that went down. With strongSwan a peer may
// have come again before its former IKE SA went: the record is then the later
// one's, and stays.
func (s *Store) Down(r Record) error {
	err := s.remove(r, func(held Record) bool {
		return r.Serial == 0 || held.Serial == 0 || held.Serial <= r.Serial
	})
	if err != nil {
		return fmt.Errorf("remove the record of a peer: %w", err)
	}
	return nil
}

// Sweep removes stale records as they were loaded, if they were not replaced
// since, the records of an earlier boot, and files that a killed hook began. It
// sets damaged ones aside under another name. Other files are left alone.
func (s *Store) Sweep(stale []Record) error {
	for _, r := range stale {
		err := s.remove(r, func(held Record) bool { return held.Time == r.Time })
		if err != nil {
			return fmt.Errorf("remove the record of a peer: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.sweep(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an old record of a peer: %w", err)
	}
	return nil
}

func (s *Store) sweep() error {
	d, err := s.open(false)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := s.seen[name]; ok || !isRecord(name) {
			continue
		}
		c, err := s.load(d, name)
		switch {
		case err == nil && c.record.Boot != s.boot:
			err = d.RemoveIfAny(name)
		case err != nil && slices.Contains(s.damaged, name):
			err = d.Rename(name, aside+name)
		default:
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.Tidy("")
}

func (s *Store) remove(r Record, while func(held Record) bool) error {
	d, err := s.open(false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	name := r.name() + ending
	if !d.Exists(name) {
		if name = r.formerName() + ending; !d.Exists(name) {
			return nil
		}
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	held, _, err := read(d, name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !while(held) {
		return nil
	}
	return d.RemoveIfAny(name)
}

// lock keeps a record from being replaced between being read and removed.
func (s *Store) lock() (unlock func(), err error) {
	d, err := s.open(false)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(time.Millisecond) {
		if err = d.Flock(); err == nil {
			return d.Close, nil
		}
		if time.Now().After(deadline) {
			d.Close()
			return nil, err
		}
	}
}

// list returns the files of records, and counts the damaged ones.
func list(d *rundir.Dir) (names []string, damaged int, err error) {
	all, err := d.Names()
	if err != nil {
		return nil, 0, err
	}
	for _, name := range all {
		switch {
		case isRecord(name):
			names = append(names, name)
		case strings.HasPrefix(name, aside):
			damaged++
		}
	}
	return names, damaged, nil
}

// isRecord reports whether a name is that of a record: 32 hexadecimal digits.
func isRecord(name string) bool {
	digits, ok := strings.CutSuffix(name, ending)
	return ok && len(digits) == 32 && strings.Trim(digits, "0123456789abcdef") == ""
}

// Load reads all records of this boot, sorted by name. A damaged file is no record,
// and a warning says so: its peer is unknown until it comes again.
func (s *Store) Load() (records []Record, warnings []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	records, warnings, err = s.loadAll()
	if errors.Is(err, fs.ErrNotExist) {
		s.seen, s.loaded, s.warned, s.full, s.stamp = nil, nil, nil, nil, stamp{}
		return nil, nil, nil
	}
	if err != nil {
		return nil, warnings, fmt.Errorf("read the records of peers: %w", err)
	}
	return records, warnings, nil
}

func (s *Store) loadAll() (records []Record, warnings []string, err error) {
	d, err := s.open(false)
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	before := stampOf(d)
	if before != (stamp{}) && before == s.stamp {
		return slices.Clone(s.loaded), slices.Clone(s.warned), nil
	}
	names, damaged, err := list(d)
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	s.damaged = nil
	fresh := make(map[string]cached, len(names))
	for _, name := range names[:min(len(names), maxRecords)] {
		c, err := s.load(d, name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
		case err != nil:
			damaged++
			s.damaged = append(s.damaged, name)
		case c.record.Boot == s.boot:
			fresh[name] = c
			records = append(records, c.record)
		}
	}
	if damaged > 0 {
		warnings = append(warnings, fmt.Sprintf(
			"%d records of peers in %s are damaged: those peers are unknown until their tunnels come up again; remove %s* to end this warning",
			damaged, s.path, aside))
	}
	s.full = fullShares(names, "")
	for i := range s.full {
		s.full[i].name(records)
	}
	s.seen, s.loaded, s.warned, s.stamp = fresh, records, warnings, before
	return slices.Clone(records), warnings, nil
}

// load reads one record, unless it is the one that was read before.
func (s *Store) load(d *rundir.Dir, name string) (cached, error) {
	st, err := d.Stat(name)
	if err != nil {
		return cached{}, err
	}
	if c, ok := s.seen[name]; ok && c.inode == st.Ino && c.changed == st.Ctim {
		return c, nil
	}
	r, st, err := read(d, name)
	if err != nil {
		return cached{}, err
	}
	if name != r.name()+ending && name != r.formerName()+ending {
		return cached{}, errors.New("its name is not that of its content")
	}
	// A record of a version that took its time from the wall clock is the oldest.
	if r.Time > int64(s.now()) {
		r.Time = 0
	}
	return cached{st.Ino, st.Ctim, r}, nil
}

func read(d *rundir.Dir, name string) (Record, unix.Stat_t, error) {
	text, st, err := d.Read(name, maxSize)
	if err != nil {
		return Record{}, st, err
	}
	r, err := decode(text)
	return r, st, err
}
