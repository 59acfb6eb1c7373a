package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/atomicfile"
)

// lockWait is how long an apply waits for another one.
const lockWait = 60 * time.Second

// lock takes the lock that keeps two of us from undoing each other, and returns
// the function that gives it back. It holds for one network namespace: /run is
// shared by namespaces that have rules of their own.
func lock(ctx context.Context, o *options, name string) (func(), error) {
	f, err := openLock(o, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: another xfrmfw holds it (see fuser -v %s); nothing was changed", f.Name(), f.Name())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// openLock opens the lock file of this network namespace.
func openLock(o *options, name string) (*os.File, error) {
	if err := os.MkdirAll(o.runDir, 0o700); err != nil {
		return nil, fmt.Errorf("make run directory: %w: run as root, or name another with --run-dir", err)
	}
	path, err := runFile(o, name, ".lock")
	if err != nil {
		return nil, err
	}
	const flags = os.O_RDWR | unix.O_CLOEXEC | unix.O_NOFOLLOW
	f, err := os.OpenFile(path, flags|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case err == nil:
		err = atomicfile.Adopt(f)
	case errors.Is(err, fs.ErrExist):
		f, err = os.OpenFile(path, flags, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open lock: %w: run as root, or name another directory with --run-dir", err)
	}
	return f, nil
}

// daemonSocket names the socket by which the daemon of this network namespace
// is nudged.
func daemonSocket(o *options) (string, error) { return runFile(o, "daemon", ".sock") }

// namespace returns the inode that names the network namespace.
func namespace() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("find network namespace: %w: is /proc mounted?", err)
	}
	return st.Ino, nil
}
