package nftables

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/test/lab"
)

// Environment of the process that TestMain starts.
const (
	envInside = "XFRMFW_TEST_INSIDE" // set in the namespaces of the test
	envNoNS   = "XFRMFW_TEST_NO_NETNS"
	// envRoot is set for benchmarks by root without a user namespace, in which the
	// kernel takes no long batch.
	envRoot = "XFRMFW_TEST_AS_ROOT"
)

// TestMain runs the tests in a user and a network namespace of their own, which
// works as root and as an ordinary user where the kernel allows it.
func TestMain(m *testing.M) {
	if os.Getenv(envInside) != "" {
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
	if os.Getenv(envRoot) != "" {
		self.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	}
	if err := self.Start(); err != nil {
		os.Setenv(envNoNS, err.Error())
		os.Exit(m.Run())
	}
	_ = self.Wait()
	os.Exit(self.ProcessState.ExitCode())
}

// open opens a socket in the test's namespace, where there is no table now nor
// afterwards.
func open(t testing.TB) *Conn {
	t.Helper()
	if why := os.Getenv(envNoNS); why != "" {
		lab.Lacking(t, "netns", why)
	}
	c, err := Open()
	if err != nil {
		lab.Lacking(t, "nftables", err.Error())
	}
	if _, err := c.Find(); err != nil {
		lab.Lacking(t, "nftables", err.Error())
	}
	clean := func() {
		s, err := c.Read(testTable)
		if err == nil {
			_, err = c.Apply(s, sets.Diff(s.Table, sets.Table{}), sets.Table{})
		}
		if err != nil {
			t.Error(err)
		}
	}
	clean()
	t.Cleanup(func() {
		clean()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

const testTable = "xfrmfw"

// apply makes a table as wanted and returns it as it is read back.
func apply(t testing.TB, c *Conn, want sets.Table) State {
	t.Helper()
	if want.Name != "" {
		if err := want.Validate(); err != nil {
			t.Fatal(err)
		}
	}
	s := read(t, c)
	generation, err := c.Apply(s, sets.Diff(s.Table, want), want)
	if err != nil {
		t.Fatal(err)
	}
	now := read(t, c)
	if now.Generation != generation {
		t.Fatalf("Apply says generation %d, it is %d", generation, now.Generation)
	}
	return now
}

func read(t testing.TB, c *Conn) State {
	t.Helper()
	s, err := c.Read(testTable)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// nft runs the nft program with text on its standard input.
func nft(t testing.TB, input string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("nft")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/nft"); err != nil {
			lab.Lacking(t, "nft", err.Error())
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// standIns are the fields of SAs in the keys of sets, and the fields that stand for them
// where the set was made by netlink.
var standIns = []struct {
	field *regexp.Regexp
	by    string
}{
	{regexp.MustCompile(`(typeof .*|\. )ipsec (?:in|out) (?:reqid|spi)`), "${1}meta cpu"},
	{regexp.MustCompile(`(typeof .*|\. )ipsec (?:in|out) (ip6?) [sd]addr`), "${1}${2} saddr"},
}

// list returns the table as nft prints it, with the stand-ins for fields of SAs in keys.
func list(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(nft(t, "", "list", "table", "inet", testTable)) {
		if strings.HasPrefix(strings.TrimSpace(line), "typeof ") {
			for _, s := range standIns {
				line = s.field.ReplaceAllString(line, s.by)
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

// bare returns the table without the kernel's counts and numbers.
func bare(table sets.Table) sets.Table {
	table.Chains = slices.Clone(table.Chains)
	for i, c := range table.Chains {
		table.Chains[i].Rules = slices.Clone(c.Rules)
		for j := range c.Rules {
			table.Chains[i].Rules[j].Handle = 0
			table.Chains[i].Rules[j].Terms = sets.Canonical(c.Rules[j].Terms)
		}
	}
	table.Sets = slices.Clone(table.Sets)
	for i, s := range table.Sets {
		table.Sets[i].Opens = false
		table.Sets[i].Elements = slices.Clone(s.Elements)
	}
	return table
}
