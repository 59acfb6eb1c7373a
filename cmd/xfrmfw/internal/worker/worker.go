// Package worker starts the background processes of hook and apply --confirm, and logs
// their errors: they have no terminal.
package worker

import (
	"fmt"
	"io"
	"log/syslog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
)

// FirstFile is the descriptor of the first file that a worker inherits.
const FirstFile = 3

// Start starts a command of this program with --worker, in a session of its own, so that
// a terminal that is closed does not end it and an IKE daemon does not wait for it.
//
// The files are open in it, from FirstFile on.
func Start(command string, o gateway.Options, files ...*os.File) error {
	args := []string{command, "--worker", "--run-dir", o.Run, "--state-dir", o.State}
	if o.Explicit { // the default file may be missing, a named one may not
		args = append(args, "--config", o.Config)
	}
	if o.Variant != "" {
		args = append(args, "--variant", string(o.Variant))
	}
	if o.Engine != "" {
		args = append(args, "--engine", string(o.Engine))
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	return cmd.Process.Release()
}

// readyFile is the descriptor by which a worker with one inherited file says that it is
// ready, and patience the time that it has for that.
const (
	readyFile = FirstFile + 1
	patience  = 30 * time.Second
)

// StartReady is Start with one file. It returns once the worker has called Ready, and an
// error if it ends before.
func StartReady(command string, o gateway.Options, file *os.File) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	defer func() { _ = r.Close() }()
	err = Start(command, o, file, w)
	_ = w.Close()
	if err != nil {
		return err
	}
	_ = r.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		return fmt.Errorf("start worker: it ended, or is not ready: %w", err)
	}
	return nil
}

// Ready tells the caller of StartReady that this worker catches its signals. A worker that
// a person starts by hand has no caller.
func Ready() {
	var st unix.Stat_t
	if unix.Fstat(readyFile, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return
	}
	_, _ = unix.Write(readyFile, []byte{1})
	_ = unix.Close(readyFile)
}

// Log logs an error of a command to syslog. Without a syslog daemon it is lost.
func Log(command string, err error) {
	w, dial := syslog.New(syslog.LOG_ERR|syslog.LOG_DAEMON, "xfrmfw")
	if dial != nil {
		return
	}
	_ = w.Err(command + ": " + err.Error())
	_ = w.Close()
}
