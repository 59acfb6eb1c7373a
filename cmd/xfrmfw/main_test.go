package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

const inUserns = "XFRMFW_TEST_IN_USERNS"

// TestMain runs the tests below a user namespace, so that an ordinary user too
// may write the rules of networks of his own, or else as root. Called by the
// name of the program, the test binary is the program.
func TestMain(m *testing.M) {
	isProgram := filepath.Base(os.Args[0]) == "xfrmfw"
	isWorker := len(os.Args) > 2 && os.Args[2] == "--worker" // which is started as /proc/self/exe
	switch {
	case isWorker:
		main()
	case !isProgram && os.Getenv(inUserns) == "":
		if code, err := reexec(); err == nil {
			os.Exit(code)
		}
	}
	if !isProgram {
		catchHangup()
	}
	testscript.Main(m, map[string]func(){"xfrmfw": main})
}

// catchHangup has the programs of the tests be hung up by their terminal, also where
// nohup has this process ignore SIGHUP: a program inherits ignored signals, and not
// caught ones.
func catchHangup() {
	if signal.Ignored(unix.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	}
}

// reexec runs this binary once more, as the root of a new user namespace, which has
// other users too if root makes it; the error says that it could not be started.
func reexec() (int, error) {
	users := 1
	if os.Getuid() == 0 {
		users = 1 << 16
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inUserns+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: users}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: users}},
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// TestScripts runs the program as a user does, each script on a gateway of its
// own: a network namespace with nothing in it, and folders in /run, /var/lib and
// /etc/xfrmfw that are empty.
func TestScripts(t *testing.T) {
	for _, tool := range []string{"ip", "iptables", "ip6tables", "setpriv", "unshare", "mount", "flock"} {
		if _, err := exec.LookPath(tool); err != nil {
			lab.Lacking(t, "netns", fmt.Sprintf("%v: install iproute2, iptables and util-linux", err))
		}
	}
	probe := make(chan error)
	go func() { probe <- enter() }()
	if err := <-probe; err != nil {
		lab.Lacking(t, "netns", err.Error())
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// The script runs on this thread, and so do the programs that it starts.
			if err := enter(); err != nil {
				return err
			}
			var st unix.Stat_t
			err := unix.Stat("/proc/thread-self/ns/net", &st)
			env.Setenv("NETNS", strconv.FormatUint(st.Ino, 10))
			return err
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "users":
				return os.Chown(t.TempDir(), 65534, 65533) == nil, nil
			case "br_netfilter":
				_, err := os.Stat("/proc/sys/net/bridge")
				return err == nil, nil
			case "nft": // the variant of the host's iptables
				out, err := exec.Command("iptables", "--version").Output()
				return bytes.Contains(out, []byte("nf_tables")), err
			}
			return false, fmt.Errorf("condition %q is not known", name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "until": until, "syslog": syslogTo, "watched": watched},
	})
}

// enter takes the calling thread to a new gateway, for good: it ends with its
// goroutine.
func enter() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a network and a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("detach the mounts: %w", err)
	}
	dirs := []string{"/run", "/var/lib"}
	if _, err := os.Stat("/etc/xfrmfw"); err == nil {
		dirs = append(dirs, "/etc/xfrmfw")
	}
	for _, dir := range dirs {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	return nil
}

// syslogTo has the syslog of the script's gateway written to a file:
//
//	syslog FILE
func syslogTo(ts *testscript.TestScript, _ bool, args []string) {
	// /dev/log leads to /run, which is empty, or is missing: this is tried next.
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/run/log", Net: "unixgram"})
	ts.Check(err)
	file, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { _, _ = conn.Close(), file.Close() })
	go func() {
		for message := make([]byte, 4096); ; {
			n, err := conn.Read(message)
			if err != nil {
				return
			}
			_, _ = file.Write(append(message[:n:n], '\n'))
		}
	}()
}

// watched runs a program as systemd runs a service with a watchdog, and ends it after a
// time. It fails the script, as systemd would kill the program, if the program does not
// get ready or does not notify in time from then on:
//
//	watched LIMIT TIME PROGRAM [ARGUMENT...]
func watched(ts *testscript.TestScript, _ bool, args []string) {
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	duration, err := time.ParseDuration(args[1])
	ts.Check(err)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: ts.MkAbs("notify.sock"), Net: "unixgram"})
	ts.Check(err)
	defer func() { _, _ = conn.Close(), os.Remove(ts.MkAbs("notify.sock")) }()
	ts.Check(os.Chmod(ts.MkAbs("notify.sock"), 0o666)) // as systemd's
	cmd := exec.Command(args[2], args[3:]...)
	cmd.Dir = ts.Getenv("WORK")
	cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"), "NOTIFY_SOCKET="+ts.MkAbs("notify.sock"), fmt.Sprintf("WATCHDOG_USEC=%d", limit.Microseconds()))
	ts.Check(cmd.Start())
	defer func() { _, _ = cmd.Process.Signal(unix.SIGTERM), cmd.Wait() }()
	wait, ready := time.Minute, time.Time{}
	for message := make([]byte, 4096); ready.IsZero() || time.Since(ready) < duration; {
		ts.Check(conn.SetReadDeadline(time.Now().Add(wait)))
		n, err := conn.Read(message)
		if err != nil {
			ts.Fatalf("%s: no notification for %s, %s after it was ready: %v", args[2], wait, time.Since(ready), err)
		}
		switch text := string(message[:n]); {
		case strings.Contains(text, "READY=1"):
			ready, wait = time.Now(), limit
		case !ready.IsZero() && !strings.Contains(text, "WATCHDOG=1"):
			ts.Fatalf("%s: notified %q", args[2], text)
		}
	}
}

// until runs a program again and again until it exits with 0:
//
//	until exec PROGRAM [ARGUMENT...]
func until(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: %v after a minute", strings.Join(args[1:], " "), err)
		}
	}
}

// exits runs a program that is to end with an exit status:
//
//	exits STATUS PROGRAM [ARGUMENT...]
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%s: exit status %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}
