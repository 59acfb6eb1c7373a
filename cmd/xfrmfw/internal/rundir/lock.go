package rundir

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked means that another process holds a lock.
var ErrLocked = errors.New("another process holds the lock")

// Lock is a lock file that is locked by this process, or by a child that
// inherited it.
type Lock struct {
	f    *os.File
	dir  string
	name string
}

// TryLock takes the lock of a file, which is made if it is missing. The error is
// ErrLocked while another process holds it.
func (d *Dir) TryLock(name string) (*Lock, error) {
	for {
		f, err := d.openLock(name)
		if err != nil {
			return nil, err
		}
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == unix.EWOULDBLOCK:
			_ = f.Close()
			return nil, d.problem("lock", name, ErrLocked)
		case err == unix.EINTR:
			_ = f.Close()
			continue
		case err != nil:
			_ = f.Close()
			return nil, d.problem("lock", name, err)
		}
		l := &Lock{f: f, dir: d.f.Name(), name: name}
		if d.leadsTo(name, f) {
			return l, nil
		}
		l.Release() // removed before it was locked
	}
}

func (d *Dir) openLock(name string) (*os.File, error) {
	for {
		f, _, err := d.open(name, unix.O_RDWR)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		f, err = d.create(name)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}

// Locked reports whether another process, or another Lock, holds the lock of a
// file, and returns the text that the holder has written.
func (d *Dir) Locked(name string) (text string, locked bool, err error) {
	f, _, err := d.open(name, unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	defer func() { _ = f.Close() }()
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case err == unix.EWOULDBLOCK:
	case err != nil:
		return "", false, d.problem("lock", name, err)
	default:
		return "", false, nil
	}
	buffer := make([]byte, 64)
	n, _ := f.ReadAt(buffer, 0)
	return string(buffer[:n]), true, nil
}

// leadsTo reports whether a name still leads to an open file.
func (d *Dir) leadsTo(name string, f *os.File) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false
	}
	now, err := d.Stat(name)
	return err == nil && now.Ino == st.Ino && now.Dev == st.Dev
}

// Stands reports whether the lock's file is still in its place. If it is not,
// another process may take the lock of a new one.
func (l *Lock) Stands() bool {
	d, err := Open(l.dir)
	if err != nil {
		return false
	}
	defer d.Close()
	return d.leadsTo(l.name, l.f)
}

// Write replaces the text of the lock's file.
func (l *Lock) Write(text string) error {
	err := l.f.Truncate(0)
	if err == nil {
		_, err = l.f.WriteAt([]byte(text), 0)
	}
	return err
}

// File returns the open file, for a child that is to hold the lock too.
func (l *Lock) File() *os.File { return l.f }

// Release gives the lock back, unless a child holds it too.
func (l *Lock) Release() { _ = l.f.Close() }
