// Package atomicfile writes files so that a reader, and a host that crashed,
// find the old text or the new one, never a part.
package atomicfile

import (
	"os"
	"path/filepath"
	"syscall"
)

// Replace writes text to the file at path, with mode 0600, and returns when it
// is on the disk. The directory has to exist. After an error the old file
// stands.
func Replace(path string, text []byte) error {
	if err := swap(path, text, true); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}

// Swap is Replace without waiting for the disk, for files that need not outlive
// a crash of the host.
func Swap(path string, text []byte) error { return swap(path, text, false) }

func swap(path string, text []byte, sync bool) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := Adopt(f); err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	if sync {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Adopt gives a file that this process has just made to the owner of its
// directory: a daemon that runs as a user of its own has to open what root's
// xfrmfw apply leaves there. Never call it for a file that may have been there
// before: that could be a link to somebody else's.
func Adopt(f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
