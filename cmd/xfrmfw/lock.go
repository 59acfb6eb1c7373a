package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
)

// lockWait is how long an apply waits for another one.
const lockWait = 60 * time.Second

// lock takes the lock that keeps two of us from undoing each other, and returns
// the function that gives it back. It holds for one network namespace: /run is
// shared by namespaces that have rules of their own.
func lock(ctx context.Context, o *options, name string) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		held, err := tryLock(o, name)
		if err == nil {
			return held.Release, nil
		}
		if !errors.Is(err, rundir.ErrLocked) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			file, _ := runFile(o, name, ".lock")
			return nil, fmt.Errorf("lock %s: another xfrmfw holds it (see fuser -v %s); nothing was changed", file, file)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// tryLock takes a lock file of this network namespace. The error is
// rundir.ErrLocked while another process holds it.
func tryLock(o *options, name string) (*rundir.Lock, error) {
	d, err := makeRunDir(o)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	file, err := runName(name, ".lock")
	if err != nil {
		return nil, err
	}
	held, err := d.TryLock(file)
	if err != nil && !errors.Is(err, rundir.ErrLocked) {
		return nil, fmt.Errorf("open lock: %w: run as root, or name another directory with --run-dir", err)
	}
	return held, err
}

// makeRunDir opens the run directory, and makes it if it is missing.
func makeRunDir(o *options) (*rundir.Dir, error) {
	d, err := rundir.Make(o.runDir)
	if err != nil {
		return nil, fmt.Errorf("make run directory: %w: run as root, or name another with --run-dir", err)
	}
	return d, nil
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
