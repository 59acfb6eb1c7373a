package lab

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// folders are where programs look for theirs, and the folders of a host that are put there.
func (h *Host) folders() map[string]string {
	return map[string]string{
		"/etc/xfrmfw": h.EtcDir(), "/var/lib/xfrmfw": h.StateDir(), "/run/xfrmfw": h.RunDir(),
	}
}

// start starts a program as a service of the host: in its network, and in a mount namespace of its own with /sys of that
// network and the host's folders in their places. It is ip netns exec without its processes, each of which takes long in
// an emulated machine.
func (h *Host) start(cmd *exec.Cmd) error {
	return h.Do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make a mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return fmt.Errorf("detach the mounts: %w", err)
		}
		if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
			return fmt.Errorf("mount /sys: %w", err)
		}
		for place, folder := range h.folders() {
			if err := os.MkdirAll(place, 0o755); err != nil {
				return err
			}
			if err := unix.Mount(folder, place, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("bind %s to %s: %w", folder, place, err)
			}
		}
		return cmd.Start()
	})
}

// Call runs a program on the host as a service does: in its network, with the host's folders as /etc/xfrmfw,
// /var/lib/xfrmfw and /run/xfrmfw. Mounts that it makes are its own. Entries of env are added to the environment.
func (h *Host) Call(t testing.TB, env []string, input, command string, args ...string) Result {
	t.Helper()
	cmd := exec.Command(command, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(input)
	result, err := run(cmd, h.start)
	if err != nil {
		t.Fatalf("%s: %s %s: %v", h.Name, command, strings.Join(args, " "), err)
	}
	return result
}

// Binary is the path of the program under test, XFRMFW_BIN. Without it the test is skipped, or fails if XFRMFW_REQUIRE
// asks for the lab.
func Binary(t testing.TB) string {
	t.Helper()
	path := os.Getenv("XFRMFW_BIN")
	if path == "" {
		Lacking(t, "lab", "XFRMFW_BIN is not set to the path of xfrmfw")
	}
	return path
}

// Engine is the engine that the program under test uses: XFRMFW_ENGINE, or its default.
func Engine() string { return cmp.Or(os.Getenv("XFRMFW_ENGINE"), "iptables") }

// HookCommand is the program under test as the words of an updown script's line, with the engine of the lab.
func HookCommand(t testing.TB) string {
	t.Helper()
	return strings.Join(append([]string{Binary(t)}, withEngine(nil)...), " ")
}

// withEngine has the program under test use the engine of the lab, as engine: in its configuration would.
func withEngine(args []string) []string {
	if os.Getenv("XFRMFW_ENGINE") == "" {
		return args
	}
	return append([]string{"--engine", Engine()}, args...)
}

// Xfrmfw runs the program under test on the host to its end.
func (h *Host) Xfrmfw(t testing.TB, args ...string) Result {
	t.Helper()
	return h.XfrmfwWith(t, nil, "", args...)
}

// XfrmfwWith is Xfrmfw with additions to the environment, such as those of an updown script, and a stdin.
func (h *Host) XfrmfwWith(t testing.TB, env []string, input string, args ...string) Result {
	t.Helper()
	return h.Call(t, env, input, Binary(t), withEngine(args)...)
}

// MustXfrmfw is Xfrmfw for a command that must succeed. It returns stdout.
func (h *Host) MustXfrmfw(t testing.TB, args ...string) string {
	t.Helper()
	result := h.Xfrmfw(t, args...)
	if result.Code != 0 {
		t.Fatalf("%s: xfrmfw %s: exit status %d\n%s%s", h.Name, strings.Join(args, " "), result.Code,
			indent("stdout", result.Stdout), indent("stderr", result.Stderr))
	}
	return result.Stdout
}

// A Process is a program that runs on a host beside the test.
type Process struct {
	name   string
	cmd    *exec.Cmd
	output lockedBuffer
	done   chan struct{}
}

// StartXfrmfw starts the program under test, such as its daemon. It is terminated when the test ends, and its output is
// logged if the test failed.
func (h *Host) StartXfrmfw(t testing.TB, args ...string) *Process {
	t.Helper()
	return h.Start(t, nil, Binary(t), withEngine(args)...)
}

// Start starts a program as Call does and leaves it running until the test ends.
func (h *Host) Start(t testing.TB, env []string, command string, args ...string) *Process {
	t.Helper()
	p := &Process{
		name: fmt.Sprintf("%s: %s %s", h.Name, command, strings.Join(args, " ")),
		cmd:  exec.Command(command, args...),
		done: make(chan struct{}),
	}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	if err := h.start(p.cmd); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Stop(t)
		if t.Failed() {
			t.Logf("%s\n%s", p.name, indent("output", p.Output()))
		}
	})
	return p
}

// Output is the program's output so far, stdout and stderr together.
func (p *Process) Output() string { return p.output.String() }

// Signal sends a signal to the program.
func (p *Process) Signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatalf("%s: send %v: %v", p.name, signal, err)
	}
}

// Kill kills the program, and reports whether it still ran.
func (p *Process) Kill() bool { return p.cmd.Process.Kill() == nil }

// Running reports whether the program has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait waits for the end of the program and returns its exit status; -1 is death by a signal.
func (p *Process) Wait(t testing.TB, limit time.Duration) int {
	t.Helper()
	limit = room(limit)
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		t.Fatalf("%s: still runs after %v\n%s", p.name, limit, indent("output", p.Output()))
		return 0
	}
}

// Stop terminates the program, kills it if that does not help, and returns its exit status. A child of the program that
// keeps its output open is an error of the test.
func (p *Process) Stop(t testing.TB) int {
	t.Helper()
	if p.Running() {
		p.cmd.Process.Signal(syscall.SIGTERM)
	}
	select {
	case <-p.done:
	case <-time.After(room(Patience)):
		p.cmd.Process.Kill()
		t.Errorf("%s: SIGTERM did not end it in %v", p.name, Patience)
		select {
		case <-p.done:
		case <-time.After(room(Patience)):
			t.Errorf("%s: a child holds its output open", p.name)
			return -1
		}
	}
	return p.cmd.ProcessState.ExitCode()
}

// WaitOutput waits until the program has written a text.
func (p *Process) WaitOutput(t testing.TB, text string) {
	t.Helper()
	Eventually(t, 6*Patience, func() error { // a program's start takes long where other machines are emulated beside this
		if strings.Contains(p.Output(), text) {
			return nil
		}
		return fmt.Errorf("%s: has not written %q\n%s", p.name, text, indent("output", p.Output()))
	})
}

// lockedBuffer is a buffer that one goroutine writes and another reads.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// InSync waits until the rules of gateways are those that their kernels ask for.
func InSync(t *testing.T, gateways ...*Host) {
	t.Helper()
	for _, g := range gateways {
		Eventually(t, 6*Patience, func() error {
			if r := g.Xfrmfw(t, "check"); r.Code != 0 {
				return fmt.Errorf("%s: check: exit status %d\n%s%s", g.Name, r.Code, r.Stdout, r.Stderr)
			}
			return nil
		})
	}
}
