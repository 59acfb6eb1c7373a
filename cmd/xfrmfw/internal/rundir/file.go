package rundir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Read returns the text of a file, and its attributes. A file of more
// than limit bytes is an error.
func (d *Dir) Read(name string, limit int) ([]byte, unix.Stat_t, error) {
	f, st, err := d.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, st, err
	}
	defer func() { _ = f.Close() }()
	if st.Size > int64(limit) {
		return nil, st, d.problem("read", name, fmt.Errorf("it has %d bytes, more than %d: remove it", st.Size, limit))
	}
	text := make([]byte, 0, st.Size+1)
	for {
		n, err := f.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		switch {
		case errors.Is(err, io.EOF):
			return text, st, nil
		case err != nil:
			return nil, st, err
		case len(text) > limit:
			return nil, st, d.problem("read", name, fmt.Errorf("it has more than %d bytes: remove it", limit))
		case len(text) == cap(text):
			text = append(text, 0)[:len(text)]
		}
	}
}

// open opens a regular file that exists. It is looked at before it is opened,
// because to open a device may be an act, and again after it.
func (d *Dir) open(name string, flags int) (*os.File, unix.Stat_t, error) {
	st, err := d.Stat(name)
	if err == nil {
		err = d.regular("open", name, &st)
	}
	if err != nil {
		return nil, st, err
	}
	fd, err := d.openat(name, flags, 0)
	if err != nil {
		return nil, st, err
	}
	f := os.NewFile(uintptr(fd), d.Path(name))
	if err = unix.Fstat(fd, &st); err == nil {
		err = d.regular("open", name, &st)
	}
	// Where users may give files of others a second name (fs.protected_hardlinks=0), text that
	// is written to one may be written to another program's.
	if err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY && st.Nlink > 1 {
		err = d.problem("open", name, errors.New("it has a second name elsewhere: remove it"))
	}
	if err != nil {
		_ = f.Close()
		return nil, st, err
	}
	return f, st, nil
}

// regular returns an error for all but a file that may be used.
func (d *Dir) regular(op, name string, st *unix.Stat_t) error {
	kinds := map[uint32]string{
		unix.S_IFLNK: "link", unix.S_IFIFO: "FIFO", unix.S_IFDIR: "directory", unix.S_IFSOCK: "socket", unix.S_IFCHR: "device", unix.S_IFBLK: "device",
	}
	if kind, ok := kinds[st.Mode&unix.S_IFMT]; ok {
		return d.problem(op, name, fmt.Errorf("it is a %s, not a file: remove it", kind))
	}
	if !d.trusts(st.Uid) {
		return d.problem(op, name, errOwner)
	}
	return nil
}

// Create writes a file that must not exist yet; the error is fs.ErrExist if it
// does. After any other error there is none.
func (d *Dir) Create(name string, text []byte) error {
	f, err := d.create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = d.Remove(name)
	}
	return err
}

// create makes a file, with mode 0600, for the directory's owner.
func (d *Dir) create(name string) (*os.File, error) {
	fd, err := d.openat(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), d.Path(name))
	if d.adopts() {
		err = f.Chown(int(d.uid), int(d.gid))
	}
	if err != nil {
		_ = f.Close()
		_ = d.Remove(name)
		return nil, err
	}
	return f, nil
}

// Replace writes a file, so that a reader, and a host that crashed, find the old
// text or the new one, never a part. It returns when the new text is on the disk.
// After an error the old file stands.
func (d *Dir) Replace(name string, text []byte) error {
	if err := d.swap(name, text, true); err != nil {
		return err
	}
	return d.f.Sync()
}

// Swap is Replace without waiting for the disk, for files that need not outlive a
// crash of the host.
func (d *Dir) Swap(name string, text []byte) error { return d.swap(name, text, false) }

func (d *Dir) swap(name string, text []byte, sync bool) (err error) {
	if st, err := d.Stat(name); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return d.regular("replace", name, &st)
	}
	fresh := fmt.Sprintf("%s%s-%08x", temporary, name, rand.Uint32())
	f, err := d.create(fresh)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = d.Remove(fresh)
		}
		err = errors.Join(err, f.Close())
	}()
	// Tidy leaves a locked file alone.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return d.problem("lock", fresh, err)
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	if sync {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return d.Rename(fresh, name)
}

// Keep gives a file a second name, so that it outlasts its replacement. An entry of
// that name is replaced.
func (d *Dir) Keep(name, as string) error {
	if err := d.RemoveIfAny(as); err != nil {
		return err
	}
	return d.problem("keep", name, unix.Linkat(d.fd(), name, d.fd(), as, 0))
}

// temporary begins the name of a file that is being written.
const temporary = "."

// Tidy removes files that a killed process had begun to write in the place of
// the named file, or of any file for "".
func (d *Dir) Tidy(name string) error {
	names, err := d.Names()
	if err != nil {
		return err
	}
	for _, entry := range names {
		if !isTemporary(entry, name) {
			continue
		}
		f, _, err := d.open(entry, unix.O_RDONLY)
		if err != nil {
			continue // none of ours
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = d.RemoveIfAny(entry)
		}
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// isTemporary reports whether an entry is one that swap names.
func isTemporary(entry, name string) bool {
	rest, dot := strings.CutPrefix(entry, temporary)
	at := strings.LastIndexByte(rest, '-')
	if !dot || at < 1 || len(rest)-at != 9 || strings.Trim(rest[at+1:], "0123456789abcdef") != "" {
		return false
	}
	return name == "" || rest[:at] == name
}

// Socket opens a socket's entry without connecting to it: a connection to
// /proc/self/fd/N, where N is its descriptor, leads to that socket alone.
func (d *Dir) Socket(name string) (*os.File, error) {
	fd, err := d.openat(name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), d.Path(name))
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		err = d.problem("open", name, errors.New("it is not a socket: remove it"))
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Exists reports whether there is an entry of that name, of any kind. It is
// true as well where that can't be told.
func (d *Dir) Exists(name string) bool {
	_, err := d.Stat(name)
	return !errors.Is(err, fs.ErrNotExist)
}
