// Package rundir reads and writes the files of the run and the state directory.
//
// A directory may belong to the user that an unprivileged daemon runs as, while
// root's commands work in it. So a directory is held by its descriptor, a name is
// one component of it, no link is followed, and only regular files are opened: a
// FIFO would block, and a device would act. A new file goes to the owner of its
// directory. Any other object in the place of a file is an error.
package rundir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir is an open directory. Close it after use: one that is held for long may have
// been removed and made again meanwhile.
type Dir struct {
	f        *os.File
	uid, gid uint32
}

// Open opens a directory that exists; the error is fs.ErrNotExist if it does not.
// The path is the administrator's, so that a link in it is followed. A directory
// that every user may write to is refused, unless it is sticky, as a bare tmpfs is:
// there another user's entry is refused by its owner, and ours stay in their places.
func Open(path string) (*Dir, error) {
	fd, err := openat(unix.AT_FDCWD, path, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open directory", Path: path, Err: err}
	}
	return hold(fd, path)
}

// Make is Open for a directory that may be missing: it is made, with mode 0700.
func Make(path string) (*Dir, error) {
	d, err := Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	return Open(path)
}

func hold(fd int, path string) (*Dir, error) {
	d := &Dir{f: os.NewFile(uintptr(fd), path)}
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	if err == nil && st.Mode&(unix.S_IWOTH|unix.S_ISVTX) == unix.S_IWOTH {
		err = errors.New("every user may write to it: chmod o-w it, or name another directory")
	}
	if err != nil {
		d.Close()
		return nil, &fs.PathError{Op: "open directory", Path: path, Err: err}
	}
	d.uid, d.gid = st.Uid, st.Gid
	return d, nil
}

// Close closes the directory.
func (d *Dir) Close() { _ = d.f.Close() }

// Path returns the path of an entry, for messages.
func (d *Dir) Path(name string) string { return filepath.Join(d.f.Name(), name) }

// Handle returns a path to an entry that leads through the open descriptor, for
// system calls that take nothing but a path. A link in the place of the entry
// itself is followed by those that follow links.
func (d *Dir) Handle(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.fd(), name)
}

// Sub opens a directory in the directory. It has to belong to root, to this
// process's user, or to the owner of the directory around it.
func (d *Dir) Sub(name string) (*Dir, error) {
	fd, err := d.openat(name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	sub, err := hold(fd, d.Path(name))
	if err != nil {
		return nil, err
	}
	if !d.trusts(sub.uid) {
		sub.Close()
		return nil, d.problem("open directory", name, errOwner)
	}
	return sub, nil
}

// MakeSub is Sub for a directory that may be missing: it is made, with mode 0700,
// for the owner of the directory around it.
func (d *Dir) MakeSub(name string) (*Dir, error) {
	sub, err := d.Sub(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return sub, err
	}
	if err := unix.Mkdirat(d.fd(), name, 0o700); err != nil && err != unix.EEXIST {
		return nil, d.problem("make directory", name, err)
	}
	sub, err = d.Sub(name)
	if err != nil || !d.adopts() || sub.uid == d.uid {
		return sub, err
	}
	if err := sub.f.Chown(int(d.uid), int(d.gid)); err != nil {
		sub.Close()
		return nil, err
	}
	sub.uid, sub.gid = d.uid, d.gid
	return sub, nil
}

// Names lists the directory, in no order.
func (d *Dir) Names() ([]string, error) {
	fd, err := d.openat(".", unix.O_DIRECTORY|unix.O_RDONLY, 0) // with a position of its own
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), d.f.Name())
	defer func() { _ = f.Close() }()
	return f.Readdirnames(-1)
}

// Stat looks at an entry itself, of any kind.
func (d *Dir) Stat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, d.problem("look at", name, err)
}

// Here looks at the directory.
func (d *Dir) Here() (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstat(d.fd(), &st)
	return st, d.problem("look at", "", err)
}

// Flock takes the exclusive lock of the directory itself, without waiting. It
// lasts until Close.
func (d *Dir) Flock() error {
	return d.problem("lock", "", unix.Flock(d.fd(), unix.LOCK_EX|unix.LOCK_NB))
}

// Rename gives an entry another name; an entry of that name is replaced.
func (d *Dir) Rename(from, to string) error {
	return d.problem("rename", from, unix.Renameat(d.fd(), from, d.fd(), to))
}

// Remove removes an entry that is no directory; the error is fs.ErrNotExist if it
// is missing.
func (d *Dir) Remove(name string) error {
	return d.problem("remove", name, unix.Unlinkat(d.fd(), name, 0))
}

// RemoveIfAny is Remove for an entry that may be missing.
func (d *Dir) RemoveIfAny(name string) error {
	if err := d.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// errOwner refuses files that a third user has put in a directory.
var errOwner = errors.New("it belongs to another user: remove it")

// trusts reports whether a user's files may be used.
func (d *Dir) trusts(uid uint32) bool {
	return uid == 0 || uid == d.uid || int(uid) == os.Geteuid()
}

// adopts reports whether new files have to be given to the directory's owner.
func (d *Dir) adopts() bool { return os.Geteuid() == 0 && d.uid != 0 }

func (d *Dir) fd() int { return int(d.f.Fd()) }

func (d *Dir) openat(name string, flags int, mode uint32) (int, error) {
	if name == "" || name == ".." || strings.ContainsRune(name, '/') {
		return -1, d.problem("open", name, errors.New("not the name of a file"))
	}
	fd, err := openat(d.fd(), name, flags|unix.O_NOFOLLOW, mode)
	return fd, d.problem("open", name, err)
}

// openat opens without blocking, and again when a signal came in between.
func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// problem names the operation that failed with an entry.
func (d *Dir) problem(op, name string, err error) error {
	switch err {
	case nil:
		return nil
	case unix.ELOOP:
		err = errors.New("it is a link: remove it")
	}
	return &fs.PathError{Op: op, Path: d.Path(name), Err: err}
}
