package iptables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/test/lab"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The environment tells a test binary how far it has got: into a user namespace,
// into a network namespace, or why it hasn't.
const (
	inUserns  = "XFRMFW_TEST_IN_USERNS"
	inNetns   = "XFRMFW_TEST_IN_NETNS"
	whyNetns  = "XFRMFW_TEST_NO_NETNS"
	fillQuote = `-m comment --comment "rule %d of \"others\" with \\ and '$(x)' # *filter" -j ACCEPT`
)

// TestMain runs the tests in a new network namespace, where they may write
// rules: below a new user namespace, so that it works for an ordinary user, or
// else as root. The user namespace comes first and on its own: the kernel gives
// /proc/net/ip_tables_names to the root of the namespace only if its IDs are
// mapped by the time the network namespace is made.
func TestMain(m *testing.M) {
	if os.Getenv(inNetns) != "" || os.Getenv(whyNetns) != "" {
		os.Exit(m.Run())
	}
	os.Exit(reexec())
}

func reexec() int {
	if os.Getenv(inUserns) != "" {
		code, err := start(syscall.CLONE_NEWNET, inNetns+"=1")
		if err != nil {
			code, err = start(0, whyNetns+"=netns: "+err.Error())
		}
		return exitCode(code, err)
	}
	dir, err := os.MkdirTemp("", "xfrmfw")
	if err != nil {
		return exitCode(0, err)
	}
	defer os.RemoveAll(dir)
	lock := "XTABLES_LOCKFILE=" + filepath.Join(dir, "lock")
	code, err := start(syscall.CLONE_NEWUSER, inUserns+"=1", lock)
	if err != nil && os.Geteuid() == 0 {
		code, err = start(syscall.CLONE_NEWNET, inNetns+"=1", lock)
	}
	if err != nil {
		code, err = start(0, whyNetns+"=netns: a user namespace can't be made: "+err.Error())
	}
	return exitCode(code, err)
}

// start runs this binary once more, in new namespaces; the error says that it
// could not be started.
func start(flags uintptr, env ...string) (int, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if flags&syscall.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func exitCode(code int, err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// each runs a test against the real programs: both variants, both families, with
// no rules of the test before.
func each(t *testing.T, test func(t *testing.T, p *Programs, family xfrm.Family), variants ...Variant) {
	t.Helper()
	eachVariant(t, func(t *testing.T, p *Programs) {
		for _, family := range p.Families() {
			t.Run(family.String(), func(t *testing.T) {
				flush(t, p)
				test(t, p, family)
			})
		}
	}, variants...)
}

// eachVariant runs a test with each variant, or only those that it is about.
func eachVariant(t *testing.T, test func(t *testing.T, p *Programs), variants ...Variant) {
	t.Helper()
	if why := os.Getenv(whyNetns); why != "" {
		lab.Lacking(t, "netns", why)
	}
	if len(variants) == 0 {
		variants = []Variant{NFT, Legacy}
	}
	for _, variant := range variants {
		t.Run(string(variant), func(t *testing.T) {
			p, err := Find(t.Context(), Options{Variant: variant, Wait: time.Second, Timeout: 20 * time.Second})
			if err != nil {
				lab.Lacking(t, "netns", err.Error())
			}
			if err := p.Restore(t.Context(), xfrm.IPv4, "*mangle\nCOMMIT\n", false); err != nil {
				lab.Lacking(t, "netns", err.Error())
			}
			flush(t, p)
			test(t, p)
			flush(t, p)
		})
	}
}

// flush empties all tables of the namespace.
func flush(t testing.TB, p *Programs) {
	t.Helper()
	ctx := context.Background()
	for _, family := range p.Families() {
		for _, table := range []string{"mangle", "filter", "nat"} {
			_, stderr, err := p.output(ctx, time.Minute, "*"+table+"\nCOMMIT\n", p.families[family].restore, "-w", "5")
			if err != nil {
				t.Fatalf("flush %s: %v: %s", table, err, stderr)
			}
		}
	}
}

func mustSave(t testing.TB, p *Programs, family xfrm.Family) live.Tables {
	t.Helper()
	s, err := p.Save(t.Context(), family)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustRestore(t testing.TB, p *Programs, family xfrm.Family, text string) {
	t.Helper()
	if err := p.Restore(t.Context(), family, text, strings.Contains(text, "\n[")); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

func planFor(t testing.TB, p *Programs, rs rules.Ruleset) plan.Change {
	t.Helper()
	have := map[xfrm.Family]live.Tables{rs.Family: mustSave(t, p, rs.Family)}
	change, err := plan.Make([]rules.Ruleset{rs}, have)
	if err != nil {
		t.Fatal(err)
	}
	return change
}

func mustApply(t testing.TB, p *Programs, change plan.Change) {
	t.Helper()
	if err := p.Apply(t.Context(), change); err != nil {
		for _, s := range change.Steps {
			t.Log(s.Text)
		}
		t.Fatal(err)
	}
}
