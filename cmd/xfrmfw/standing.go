package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/nudge"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/record"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
)

// runFile names a file in the run directory that belongs to this network
// namespace.
func runFile(o *options, name, suffix string) (string, error) {
	ns, err := namespace()
	if err != nil {
		return "", err
	}
	return filepath.Join(o.runDir, fmt.Sprintf("%s-%d%s", name, ns, suffix)), nil
}

// note records how a reconcile ended, for status. That it can't be written down
// is no reason to call a good reconcile a failure.
func note(o *options, by string, failure error) {
	path, err := runFile(o, "reconciled", ".json")
	if err != nil {
		return
	}
	if failure != nil {
		_ = record.Failed(path, by, time.Now().Unix(), failure)
		return
	}
	_ = record.Done(path, by, time.Now().Unix())
}

// daemonState is what status says of the daemon, from the files alone.
func daemonState(o *options) status.Daemon {
	pid, _ := daemonPID(o)
	d := status.Daemon{Running: pid != 0}
	path, err := runFile(o, "reconciled", ".json")
	if err != nil {
		return d
	}
	r, err := record.Load(path)
	if err != nil {
		d.LastError = err.Error()
		return d
	}
	d.ReconciledBy, d.LastError = r.By, r.Error
	if r.Reconciled > 0 {
		d.LastReconcile = time.Unix(r.Reconciled, 0).UTC().Format(time.RFC3339)
	}
	return d
}

// lockDaemon makes this process the daemon of the network namespace until the
// returned function is called. The lock file says which process it is.
func lockDaemon(ctx context.Context, o *options) (func(), error) {
	f, err := openLock(o, "daemon")
	if err != nil {
		return nil, err
	}
	// Whoever asks whether a daemon runs holds the lock for a moment.
	for range 50 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		_ = f.Close()
		if pid, _ := daemonPID(o); pid != 0 {
			return nil, fmt.Errorf("a daemon runs already in this network namespace, as process %d: stop it first, e.g. systemctl stop xfrmfw", pid)
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return func() { _ = f.Close() }, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// reloadDaemon has a daemon that runs read its configuration, so that it does not
// put back what the caller has just changed by a newer one. The caller holds the
// lock, and the daemon looks for the file once it has it: a signal could come
// too late.
func reloadDaemon(o *options) error {
	if pid, err := daemonPID(o); err != nil || pid == 0 {
		return err
	}
	const remedy = "have the daemon read its configuration: %w: until then it works by the former one: systemctl reload xfrmfw"
	path, err := runFile(o, "daemon", ".reload")
	if err != nil {
		return fmt.Errorf(remedy, err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf(remedy, err)
	}
	socket, err := daemonSocket(o)
	if err == nil {
		err = nudge.Send(socket)
	}
	if err != nil {
		return fmt.Errorf(remedy, err)
	}
	return nil
}

// mustReload reports, once, whether reloadDaemon was called.
func mustReload(o *options) bool {
	path, err := runFile(o, "daemon", ".reload")
	return err == nil && os.Remove(path) == nil
}

// daemonPID returns the process that is the daemon of this network namespace, 0
// if none runs. The process holds its lock, so the number can't be stale; but it
// is the daemon's own, and means another process to whoever is in another PID
// namespace.
func daemonPID(o *options) (int, error) {
	path, err := runFile(o, "daemon", ".lock")
	if err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, nil
	}
	text := make([]byte, 32)
	n, _ := f.ReadAt(text, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil || pid < 1 {
		return 0, fmt.Errorf("read %s: no process is named in it", path)
	}
	return pid, nil
}
