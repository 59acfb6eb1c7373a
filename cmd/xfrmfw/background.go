package main

import (
	"fmt"
	"os/exec"
	"syscall"
)

// background starts a hidden worker of a command in a session of its own, so
// that neither a terminal that goes nor an IKE daemon that waits is tied to it.
func background(o *options, command string) error {
	args := []string{command, "--worker", "--run-dir", o.runDir, "--state-dir", o.stateDir}
	if o.explicit { // the default one may be missing, one that was named may not
		args = append(args, "--config", o.config)
	}
	if o.variant != "" {
		args = append(args, "--variant", o.variant)
	}
	work := exec.Command("/proc/self/exe", args...)
	work.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	work.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := work.Start(); err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	return work.Process.Release()
}
