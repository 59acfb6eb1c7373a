package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Environment of the processes that TestMain starts.
const (
	envInside = "XFRMFW_TEST_INSIDE" // set in the namespaces of the test
	envNoNS   = "XFRMFW_TEST_NO_NETNS"
	envHelper = "XFRMFW_TEST_HELPER"
)

// Exit codes of the helpers.
const (
	exitPermission = 10
	exitNoXFRM     = 11
	exitOther      = 12
)

// TestMain runs the tests in a user and a network namespace of their own, which
// works as root and as an ordinary user where the kernel allows it.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(envHelper) != "":
		os.Exit(helper(os.Getenv(envHelper)))
	case os.Getenv(envInside) != "":
		os.Exit(m.Run())
	}
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Env = append(os.Environ(), envInside+"=1")
	self.Stdin, self.Stdout, self.Stderr = os.Stdin, os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := self.Start(); err != nil {
		os.Setenv(envNoNS, err.Error())
		os.Exit(m.Run())
	}
	err := self.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "test process:", err)
		os.Exit(1)
	}
}

// helper does one thing in a process of its own and tells by its exit code.
func helper(what string) int {
	var err error
	switch what {
	case "read":
		_, err = Read(context.Background())
	case "watch":
		_, err = Watch()
	}
	fmt.Println(err)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrPermission):
		return exitPermission
	case errors.Is(err, ErrNoXFRM):
		return exitNoXFRM
	}
	return exitOther
}

// netns makes sure that the test runs in its own network namespace with XFRM,
// and that it is empty now and afterwards.
func netns(t testing.TB) {
	t.Helper()
	if why := os.Getenv(envNoNS); why != "" {
		lab.Lacking(t, "netns", why)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		lab.Lacking(t, "netns", err.Error())
	}
	if _, err := Read(t.Context()); errors.Is(err, ErrNoXFRM) {
		lab.Lacking(t, "netns", err.Error())
	}
	empty := func() {
		ip(t, "xfrm state flush")
		ip(t, "xfrm policy flush")
		ip(t, "xfrm policy flush ptype sub")
	}
	empty()
	t.Cleanup(empty)
	ip(t, "link set lo up")
}

// ip runs the ip program.
func ip(t testing.TB, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// tryIP runs the ip program for something that the kernel may lack.
func tryIP(t testing.TB, name, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		lab.Lacking(t, name, fmt.Sprintf("ip %s: %v: %s", args, err, out))
	}
}

// read reads the kernel and expects a valid snapshot.
func read(t testing.TB) xfrm.Snapshot {
	t.Helper()
	s, err := Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if len(s.Skipped) != 0 {
		t.Fatalf("skipped %q", s.Skipped)
	}
	return s
}
