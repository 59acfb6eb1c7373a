package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/nudge"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
)

// runFile names a file in the run directory that belongs to this network
// namespace.
func runFile(o *options, name, suffix string) (string, error) {
	file, err := runName(name, suffix)
	return filepath.Join(o.runDir, file), err
}

// runName is the last component of runFile.
func runName(name, suffix string) (string, error) {
	ns, err := namespace()
	return fmt.Sprintf("%s-%d%s", name, ns, suffix), err
}

// note records how a reconcile ended, for status. That it can't be written down
// is no reason to call a good reconcile a failure.
func note(o *options, by string, failure error) {
	path, err := runFile(o, "reconciled", ".json")
	if err != nil {
		return
	}
	if failure != nil {
		_ = rundir.Failed(path, by, time.Now().Unix(), failure)
		return
	}
	_ = rundir.Done(path, by, time.Now().Unix())
}

// daemonState is what status says of the daemon, from the files alone.
func daemonState(o *options) status.Daemon {
	pid, _ := daemonPID(o)
	d := status.Daemon{Running: pid != 0}
	path, err := runFile(o, "reconciled", ".json")
	if err != nil {
		return d
	}
	r, err := rundir.LoadRecord(path)
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
// lock is released. The lock file says which process it is.
func lockDaemon(ctx context.Context, o *options) (*rundir.Lock, error) {
	var held *rundir.Lock
	var err error
	// A command that asks whether a daemon runs holds the lock for a moment.
	for range 50 {
		if held, err = tryLock(o, "daemon"); !errors.Is(err, rundir.ErrLocked) || ctx.Err() != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		if pid, _ := daemonPID(o); pid != 0 {
			return nil, fmt.Errorf("a daemon runs already in this network namespace, as process %d: stop it first, e.g. systemctl stop xfrmfw", pid)
		}
		return nil, err
	}
	if err := held.Write(strconv.Itoa(os.Getpid()) + "\n"); err != nil {
		held.Release()
		return nil, err
	}
	return held, nil
}

// reloadDaemon has a daemon that runs read its configuration, so that it does not
// put back what the caller has just changed by a newer one. The caller holds the
// lock, and the daemon looks for the file once it has it: a signal could come
// too late.
func reloadDaemon(o *options) error {
	if pid, err := daemonPID(o); err != nil || pid == 0 {
		return err
	}
	err := leaveFile(o, "daemon", ".reload")
	if err == nil {
		var socket string
		if socket, err = daemonSocket(o); err == nil {
			err = nudge.Send(socket)
		}
	}
	if err != nil {
		return fmt.Errorf("have the daemon read its configuration: %w: until then it works by the former one: systemctl reload xfrmfw", err)
	}
	return nil
}

// mustReload reports, once, whether reloadDaemon was called.
func mustReload(o *options) bool { return takeFile(o, "daemon", ".reload") == nil }

// leaveFile makes an empty file in the run directory, whose being there is its
// meaning.
func leaveFile(o *options, name, suffix string) error {
	d, err := makeRunDir(o)
	if err != nil {
		return err
	}
	defer d.Close()
	file, err := runName(name, suffix)
	if err != nil {
		return err
	}
	if err := d.Create(file, nil); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// takeFile removes such a file; the error is fs.ErrNotExist if there is none.
func takeFile(o *options, name, suffix string) error {
	d, err := rundir.Open(o.runDir)
	if err != nil {
		return err
	}
	defer d.Close()
	file, err := runName(name, suffix)
	if err != nil {
		return err
	}
	return d.Remove(file)
}

// hasFile reports whether there is such a file.
func hasFile(o *options, name, suffix string) bool {
	d, err := rundir.Open(o.runDir)
	if err != nil {
		return false
	}
	defer d.Close()
	file, err := runName(name, suffix)
	return err == nil && d.Exists(file)
}

// daemonPID returns the process that is the daemon of this network namespace, 0
// if none runs. The process holds its lock, so the number can't be stale; but it
// is the daemon's own, and means another process to whoever is in another PID
// namespace.
func daemonPID(o *options) (int, error) {
	d, err := rundir.Open(o.runDir)
	if err != nil {
		return 0, nil
	}
	defer d.Close()
	file, err := runName("daemon", ".lock")
	if err != nil {
		return 0, err
	}
	text, locked, err := d.Locked(file)
	if err != nil || !locked {
		return 0, nil
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || pid < 1 {
		return 0, fmt.Errorf("read %s: no process is named in it", d.Path(file))
	}
	return pid, nil
}
