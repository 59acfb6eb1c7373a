package iptables

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// runner runs a program with stdin until the context ends, or it has printed
// nothing for the timeout, and passes on its output meanwhile: a program at
// work on a large table does not hang.
type runner func(ctx context.Context, timeout time.Duration, stdin string, stdout io.Writer, path string, args ...string) (stderr string, err error)

// output runs a program and returns its output.
func (p *Programs) output(ctx context.Context, timeout time.Duration, stdin, path string, args ...string) (stdout []byte, stderr string, err error) {
	var out bytes.Buffer
	stderr, err = p.run(ctx, timeout, stdin, &out, path, args...)
	return out.Bytes(), stderr, err
}

// errKilled means that a program was killed, so that its change may or may
// not have been done.
var errKilled = errors.New("killed")

// processes are the last programs that were run, for Programs.Ran.
type processes struct {
	mu   sync.Mutex
	last [64]int
	next int
}

func (p *processes) add(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[p.next%len(p.last)] = pid
	p.next++
}

func (p *processes) has(pid int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return pid > 0 && slices.Contains(p.last[:], pid)
}

// runProgram is a runner that notes which process it was.
func (p *processes) runProgram(ctx context.Context, timeout time.Duration, stdin string, stdout io.Writer, path string, args ...string) (string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.AfterFunc(timeout, func() { cancel(context.DeadlineExceeded) })
	defer patience.Stop()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = environment()
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	// Its own process group: it doesn't die of the terminal's ^C in the midst of
	// a commit, and dies with its children (modprobe) when its time is over.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = drain
	printed, err := newOutput(stdout, patience, timeout)
	if err != nil {
		return "", err
	}
	cmd.Stdout = printed.write
	err = cmd.Start()
	printed.started()
	if err == nil {
		p.add(cmd.Process.Pid)
		err = cmd.Wait()
	}
	if e := printed.end(); err == nil {
		err = e
	}
	var exit *exec.ExitError
	if ctx.Err() != nil && err != nil {
		err = errors.Join(errKilled, context.Cause(ctx))
	} else if errors.As(err, &exit) && !exit.Exited() {
		err = errors.Join(errKilled, err)
	}
	return strings.TrimSpace(stderr.String()), err
}

// environment is all that a program is told: messages in English, where modprobe
// is, and the lock file that the host's other programs use.
func environment() []string {
	env := []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if file := os.Getenv("XTABLES_LOCKFILE"); file != "" {
		env = append(env, "XTABLES_LOCKFILE="+file)
	}
	return env
}
