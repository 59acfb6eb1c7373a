package peers

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/atomicfile"
)

// Store is a directory with a small file for each record, so that hooks which
// run at once don't wait for each other. It belongs below /run: a record of an
// earlier boot is never read.
type Store struct {
	dir  string
	now  func() time.Time
	boot string
	// seen are the records that were read before, by file, and loaded what they
	// came to when the directory was as stamp says.
	seen   map[string]cached
	loaded []Record
	warned []string
	stamp  stamp
}

// stamp tells a directory that had a file added, replaced or removed. The zero
// value fits none.
type stamp struct {
	inode   uint64
	changed unix.Timespec
}

// stampOf returns the directory's stamp as it is now, or none if that may be the
// same after the next change: the kernel's clock for files is a coarse one.
func (s *Store) stampOf() stamp {
	var st unix.Stat_t
	if err := unix.Stat(s.dir, &st); err != nil || time.Since(time.Unix(st.Mtim.Unix())) < time.Second {
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
func In(dir string) *Store { return newStore(dir, time.Now, bootID()) }

func newStore(dir string, now func() time.Time, boot string) *Store {
	return &Store{dir: dir, now: now, boot: boot, seen: make(map[string]cached)}
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
	// maxRecords and maxSize bound what hooks can make us keep and read.
	maxRecords = 20000
	maxSize    = 8 << 10
	// lockPatience is how long a hook waits for another one's few microseconds.
	lockPatience = 100 * time.Millisecond
	// leftover is how old a file is that nobody will want any more.
	leftover = 24 * time.Hour
)

// Put keeps the record of a pair that came up.
func (s *Store) Put(r Record) error {
	if err := s.put(r); err != nil {
		return fmt.Errorf("record the peer: %w", err)
	}
	return nil
}

func (s *Store) put(r Record) error {
	owner, err := s.makeDir()
	if err != nil {
		return err
	}
	r.Boot, r.Time = s.boot, s.now().UnixNano()
	text, err := r.encode()
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, r.name()+ending)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		names, _, err := s.names()
		if err != nil {
			return err
		}
		if len(names) >= maxRecords {
			return fmt.Errorf("there are %d already in %s: who this peer is stays unknown", len(names), s.dir)
		}
	}
	// Replacing a file needs no lock but for who removes it at the same time. If
	// it can't be had soon, a record that may be lost is better than none.
	if unlock, err := s.lock(); err == nil {
		defer unlock()
	}
	if err := atomicfile.Swap(path, text); err != nil || int(owner.Uid) == os.Geteuid() {
		return err
	}
	return os.Lchown(path, int(owner.Uid), int(owner.Gid))
}

// makeDir makes the directory, and returns whose it is: a daemon that is not
// root has to read what root's hooks write.
func (s *Store) makeDir() (owner unix.Stat_t, err error) {
	parent := filepath.Dir(s.dir)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return owner, err
	}
	if err := unix.Stat(parent, &owner); err != nil {
		return owner, fmt.Errorf("look at %s: %w", parent, err)
	}
	err = os.Mkdir(s.dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return owner, nil
	}
	if err == nil && int(owner.Uid) != os.Geteuid() {
		err = os.Lchown(s.dir, int(owner.Uid), int(owner.Gid))
	}
	return owner, err
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
// since, and whatever else has lain in the directory for long: records of an
// earlier boot, damaged ones, and what a hook that was killed began.
func (s *Store) Sweep(stale []Record) error {
	for _, r := range stale {
		err := s.remove(r, func(held Record) bool { return held.Time == r.Time })
		if err != nil {
			return fmt.Errorf("remove the record of a peer: %w", err)
		}
	}
	all, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for old records of peers: %w", err)
	}
	for _, entry := range all {
		if _, ok := s.seen[entry.Name()]; ok {
			continue
		}
		info, err := entry.Info()
		if err != nil || s.now().Sub(info.ModTime()) < leftover {
			continue
		}
		if err := os.Remove(filepath.Join(s.dir, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an old record of a peer: %w", err)
		}
	}
	return nil
}

func (s *Store) remove(r Record, while func(held Record) bool) error {
	path := filepath.Join(s.dir, r.name()+ending)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	held, _, err := read(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !while(held) {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// lock keeps a record from being replaced between being read and removed.
func (s *Store) lock() (unlock func(), err error) {
	f, err := os.Open(s.dir)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if time.Now().After(deadline) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", s.dir, err)
		}
	}
}

// names lists the files of records, and counts the damaged ones.
func (s *Store) names() (names []string, damaged int, err error) {
	d, err := os.Open(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = d.Close() }()
	all, err := d.Readdirnames(-1)
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

// Load reads all records of this boot, sorted by name. A file that is damaged is
// set aside, and a warning says so: its peer is unknown until it comes again.
func (s *Store) Load() (records []Record, warnings []string, err error) {
	before := s.stampOf()
	if before != (stamp{}) && before == s.stamp {
		return slices.Clone(s.loaded), s.warned, nil
	}
	names, damaged, err := s.names()
	if err != nil {
		return nil, nil, fmt.Errorf("read the records of peers: %w", err)
	}
	slices.Sort(names)
	fresh := make(map[string]cached, len(names))
	for _, name := range names[:min(len(names), maxRecords)] {
		path := filepath.Join(s.dir, name)
		c, err := s.load(path, name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
		case err != nil:
			if failed := os.Rename(path, filepath.Join(s.dir, aside+name)); failed != nil {
				return nil, warnings, fmt.Errorf("set the damaged record %s aside: %w", path, failed)
			}
			damaged++
		case c.record.Boot == s.boot:
			fresh[name] = c
			records = append(records, c.record)
		}
	}
	if damaged > 0 {
		warnings = append(warnings, fmt.Sprintf(
			"%d records of peers were damaged and are set aside as %s: those peers are unknown until their tunnels come up again; remove the files to end this warning",
			damaged, filepath.Join(s.dir, aside+"*")))
	}
	s.seen, s.loaded, s.warned, s.stamp = fresh, records, warnings, before
	return slices.Clone(records), warnings, nil
}

// load reads one record, unless it is the one that was read before.
func (s *Store) load(path, name string) (cached, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return cached{}, err
	}
	if c, ok := s.seen[name]; ok && c.inode == st.Ino && c.changed == st.Ctim {
		return c, nil
	}
	r, st, err := read(path)
	if err != nil {
		return cached{}, err
	}
	if r.name()+ending != name {
		return cached{}, errors.New("its name is not its own")
	}
	return cached{st.Ino, st.Ctim, r}, nil
}

func read(path string) (Record, unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return Record{}, st, err
	}
	defer func() { _ = f.Close() }()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Record{}, st, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return Record{}, st, err
	}
	if len(text) > maxSize {
		return Record{}, st, errors.New("too large to be ours")
	}
	r, err := decode(text)
	return r, st, err
}
