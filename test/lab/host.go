package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A Host is one machine of a test network: a network namespace, and folders of its own that programs see as
// /etc/xfrmfw, /var/lib/xfrmfw and /run/xfrmfw.
type Host struct {
	// Name is the host's name in the test, such as moon.
	Name string

	netns string // the name that ip netns knows
	file  *os.File
	dir   string
	encap map[string]bool // the sockets of HoldUDPEncap
	inner map[Family]netip.Prefix
	outer map[Family]netip.Prefix
	crowd int // how many further tunnels it has
}

// hosts counts the namespaces of this process, because their names must differ on the
// whole machine.
var hosts atomic.Int64

// NewHosts makes hosts without any network. They end with the test.
func NewHosts(t testing.TB, names ...string) []*Host {
	t.Helper()
	Require(t)
	made := make([]*Host, 0, len(names))
	var batch strings.Builder
	for _, name := range names {
		netns := fmt.Sprintf("lab%d-%d-%s", os.Getpid(), hosts.Add(1), name)
		fmt.Fprintf(&batch, "netns add %s\n", netns)
		made = append(made, &Host{Name: name, netns: netns, dir: t.TempDir()})
	}
	t.Cleanup(func() {
		var batch strings.Builder
		for _, h := range made {
			if h.file != nil {
				h.file.Close()
			}
			fmt.Fprintf(&batch, "netns delete %s\n", h.netns)
		}
		if err := ipBatch(batch.String(), "-force"); err != nil {
			t.Errorf("remove the hosts: %v", err)
		}
	})
	if err := ipBatch(batch.String()); err != nil {
		t.Fatal(err)
	}
	for _, h := range made {
		file, err := os.Open(filepath.Join("/run/netns", h.netns))
		if err != nil {
			t.Fatalf("open the namespace of %s: %v", h.Name, err)
		}
		h.file = file
		for _, dir := range []string{h.EtcDir(), h.StateDir(), h.RunDir()} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := h.Do(loopbackUp); err != nil {
			t.Fatalf("%s: bring lo up: %v", h.Name, err)
		}
	}
	return made
}

// loopbackUp is ip link set lo up, for the network of the calling thread.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// EtcDir is the folder that programs of this host see as /etc/xfrmfw.
func (h *Host) EtcDir() string { return filepath.Join(h.dir, "etc") }

// StateDir is the folder that programs of this host see as /var/lib/xfrmfw.
func (h *Host) StateDir() string { return filepath.Join(h.dir, "lib") }

// RunDir is the folder that programs of this host see as /run/xfrmfw.
func (h *Host) RunDir() string { return filepath.Join(h.dir, "run") }

// Netns is the name by which ip netns knows this host.
func (h *Host) Netns() string { return h.netns }

// Do calls f on a thread that is in this host's network: sockets opened and processes started in f, by that goroutine,
// belong to the host. The thread is not used again, as no thread may come back to other work in a foreign network.
func (h *Host) Do(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(h.file.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter the network of %s: %w", h.Name, err)
			return
		}
		result <- f()
	}()
	return <-result
}

// A Result is the output and the exit status of a program.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Try runs a command in the host's network and returns its result, of success or failure.
// An empty input is an empty stdin.
func (h *Host) Try(t testing.TB, input, command string, args ...string) Result {
	t.Helper()
	var result Result
	err := h.Do(func() error {
		cmd := exec.Command(command, args...)
		if input != "" {
			cmd.Stdin = strings.NewReader(input)
		}
		var err error
		result, err = run(cmd, (*exec.Cmd).Start)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %s: %v", h.Name, command, err)
	}
	return result
}

// Run runs a command in the host's network and returns its stdout. The test fails if the command does.
func (h *Host) Run(t testing.TB, command string, args ...string) string {
	t.Helper()
	return h.RunInput(t, "", command, args...)
}

// RunInput is Run with a text as the command's stdin.
func (h *Host) RunInput(t testing.TB, input, command string, args ...string) string {
	t.Helper()
	result := h.Try(t, input, command, args...)
	if result.Code != 0 {
		t.Fatalf("%s: %s %s: exit status %d\n%s%s%s", h.Name, command, strings.Join(args, " "), result.Code,
			indent("stdin", input), indent("stdout", result.Stdout), indent("stderr", result.Stderr))
	}
	return result.Stdout
}

// IP runs lines of ip commands, without the word ip, in one process. The test fails at the first that fails.
func (h *Host) IP(t testing.TB, lines ...string) {
	t.Helper()
	if err := ipBatch(strings.Join(lines, "\n")+"\n", "-netns", h.netns); err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
}

// Sysctl sets kernel variables of this host, given as net/ipv4/ip_forward=1.
func (h *Host) Sysctl(t testing.TB, settings ...string) {
	t.Helper()
	err := h.Do(func() error {
		for _, setting := range settings {
			name, value, _ := strings.Cut(setting, "=")
			if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0); err != nil {
				return fmt.Errorf("set %s: %w", setting, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
}

// run starts a command and waits for its end; an exit status is no error.
func run(cmd *exec.Cmd, start func(*exec.Cmd) error) (Result, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := start(cmd); err != nil {
		return Result{}, err
	}
	err := cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = nil
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}, err
}

// ipBatch runs lines of ip commands in one process.
func ipBatch(lines string, options ...string) error {
	cmd := exec.Command("ip", append(options, "-batch", "-")...)
	cmd.Stdin = strings.NewReader(lines)
	result, err := run(cmd, (*exec.Cmd).Start)
	if err != nil {
		return fmt.Errorf("ip: %w", err)
	}
	if result.Code != 0 {
		return fmt.Errorf("ip %s -batch: exit status %d\n%s%s", strings.Join(options, " "), result.Code,
			indent("lines", lines), indent("output", result.Stdout+result.Stderr))
	}
	return nil
}

// indent is a titled block of text for a failure, or nothing for an empty text.
func indent(title, text string) string {
	text = strings.TrimRight(text, "\n")
	if text == "" {
		return ""
	}
	return title + ":\n\t" + strings.ReplaceAll(text, "\n", "\n\t") + "\n"
}
