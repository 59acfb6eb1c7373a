// Package faults hurts a running daemon in all the ways that hosts do, and
// measures how long its rules are wrong. It needs no ESP, because the rules follow the
// kernel's policies.
//
// XFRMFW_FAULT_ROUNDS is how often each fault is done, 1 by default; scripts/soak
// makes it 100.
package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const inside = "XFRMFW_FAULTS_INSIDE"

// binary is the program under test, and real where the host's iptables programs
// are found once those in /usr/sbin are replaced.
var binary, work = os.Getenv(inside), os.Getenv(inside + "_WORK")

// TestMain runs the tests as root in a network and a mount namespace of their
// own, where /usr/sbin can be made to hold other programs.
func TestMain(m *testing.M) {
	if binary != "" {
		if err := enter(); err != nil {
			fmt.Fprintln(os.Stderr, "faults:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	os.Exit(reexec())
}

func reexec() int {
	dir, err := os.MkdirTemp("", "xfrmfw-faults.")
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { // a daemon that is not root runs the programs too
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 1
	}
	program := filepath.Join(dir, "xfrmfw")
	build := exec.Command("go", "build", fmt.Sprintf("-race=%v", race), "-o", program, "github.com/xfrmfw/xfrmfw/cmd/xfrmfw")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "faults: build: %v: %s\n", err, out)
		return 1
	}
	// Root needs no user namespace, and in one iptables-nft can't send the changes of a
	// storm in one commit.
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"="+program, inside+"_WORK="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = attr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		return max(1, cmd.ProcessState.ExitCode())
	}
	return 0
}

// enter replaces /usr/sbin by a folder of links to its files, but for the restore and
// save programs, which do as the file "mode" says.
func enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("detach the mounts: %w", err)
	}
	real, fake := filepath.Join(work, "real"), filepath.Join(work, "fake")
	for _, dir := range []string{real, fake} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("/usr/sbin", real, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind /usr/sbin: %w", err)
	}
	entries, err := os.ReadDir(real)
	if err != nil {
		return err
	}
	script := "#!/bin/sh\nread -r mode <" + filepath.Join(work, "mode") + "\ncase $mode in\nfail) echo broken >&2; exit 1 ;;\nhang) exec sleep 1000 ;;\nesac\nexec " + real + "/%s \"$@\"\n"
	// One that is late has printed, and gives us time to go on before the kernel changes.
	save := "#!/bin/sh\nread -r mode <" + filepath.Join(work, "mode") + "\n" + real + "/%s \"$@\" || exit\ncase $mode in\nlate) rm " + filepath.Join(work, "late") +
		" 2>/dev/null || exit 0; sleep 2; exec ip -batch " + filepath.Join(work, "later") + " ;;\nesac\n"
	for _, e := range entries {
		at := filepath.Join(fake, e.Name())
		switch ip := strings.HasPrefix(e.Name(), "ip"); {
		case ip && strings.HasSuffix(e.Name(), "-restore"):
			err = os.WriteFile(at, fmt.Appendf(nil, script, e.Name()), 0o755)
		case ip && strings.HasSuffix(e.Name(), "-save"):
			err = os.WriteFile(at, fmt.Appendf(nil, save, e.Name()), 0o755)
		default:
			err = os.Symlink(filepath.Join(real, e.Name()), at)
		}
		if err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(work, "mode"), []byte("work\n"), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(fake, "/usr/sbin", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind over /usr/sbin: %w", err)
	}
	for _, dir := range []string{"/run", "/var/lib"} {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	return nil
}

// rounds is how often each fault is done.
func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("XFRMFW_FAULT_ROUNDS")
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("XFRMFW_FAULT_ROUNDS is %q", text)
	}
	return n
}
