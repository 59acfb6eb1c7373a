// Package worker starts the background processes of hook and apply --confirm, and logs
// their errors: they have no terminal.
package worker

import (
	"fmt"
	"log/syslog"
	"os"
	"os/exec"
	"syscall"

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

// Log logs an error of a command to syslog. Without a syslog daemon it is lost.
func Log(command string, err error) {
	w, dial := syslog.New(syslog.LOG_ERR|syslog.LOG_DAEMON, "xfrmfw")
	if dial != nil {
		return
	}
	_ = w.Err(command + ": " + err.Error())
	_ = w.Close()
}
