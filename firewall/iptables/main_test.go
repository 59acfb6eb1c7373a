package iptables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// inNetns is set in the child that TestMain starts in a network namespace of its
// own; without one, it says why.
const (
	inNetns   = "XFRMFW_TEST_IN_NETNS"
	whyNetns  = "XFRMFW_TEST_NO_NETNS"
	required  = "XFRMFW_REQUIRE"
	fillQuote = `-m comment --comment "rule %d of \"others\" with \\ and '$(x)' # *filter" -j ACCEPT`
)

// TestMain runs the tests in a new network namespace, where they may write
// rules: of a new user namespace, for an ordinary user, or of root's.
func TestMain(m *testing.M) {
	if os.Getenv(inNetns) != "" || os.Getenv(whyNetns) != "" {
		os.Exit(m.Run())
	}
	os.Exit(reexec())
}

func reexec() int {
	lock, err := os.MkdirTemp("", "xfrmfw")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(lock)
	start := func(flags uintptr, env string) error {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), "XTABLES_LOCKFILE="+filepath.Join(lock, "lock"), env)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
		if flags&syscall.CLONE_NEWUSER != 0 {
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		return cmd.Run()
	}
	err = start(syscall.CLONE_NEWUSER|syscall.CLONE_NEWNET, inNetns+"=user")
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && os.Geteuid() == 0 {
		err = start(syscall.CLONE_NEWNET, inNetns+"=root")
	}
	if err != nil && !errors.As(err, &exit) {
		err = start(0, fmt.Sprintf("%s=netns: a network namespace can't be made: %v", whyNetns, err))
	}
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// need skips the test for what is missing, or fails it where the environment
// requires that.
func need(t testing.TB, what, missing string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv(required), ","), what) {
		t.Fatal(missing)
	}
	t.Skip(missing)
}

// each runs a test against the real programs: both variants, both families, with
// no rules of the test before.
func each(t *testing.T, test func(t *testing.T, p *Programs, family xfrm.Family)) {
	t.Helper()
	eachVariant(t, func(t *testing.T, p *Programs) {
		for _, family := range p.Families() {
			t.Run(family.String(), func(t *testing.T) {
				flush(t, p)
				test(t, p, family)
			})
		}
	})
}

func eachVariant(t *testing.T, test func(t *testing.T, p *Programs)) {
	t.Helper()
	if why := os.Getenv(whyNetns); why != "" {
		need(t, "netns", why)
	}
	for _, variant := range []Variant{NFT, Legacy} {
		t.Run(string(variant), func(t *testing.T) {
			p, err := Find(t.Context(), Options{Variant: variant, Wait: time.Second, Timeout: 20 * time.Second})
			if err != nil {
				need(t, "netns", err.Error())
			}
			if err := p.Restore(t.Context(), xfrm.IPv4, "*mangle\nCOMMIT\n", false); err != nil {
				need(t, "netns", err.Error())
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
			_, stderr, err := p.run(ctx, time.Minute, "*"+table+"\nCOMMIT\n", p.families[family].restore, "-w", "5")
			if err != nil {
				t.Fatalf("flush %s: %v: %s", table, err, stderr)
			}
		}
	}
}

func mustSave(t testing.TB, p *Programs, family xfrm.Family) firewall.Save {
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

func plan(t testing.TB, p *Programs, rs firewall.Ruleset) firewall.Change {
	t.Helper()
	have := map[xfrm.Family]firewall.Save{rs.Family: mustSave(t, p, rs.Family)}
	change, err := firewall.Plan([]firewall.Ruleset{rs}, have)
	if err != nil {
		t.Fatal(err)
	}
	return change
}

func mustApply(t testing.TB, p *Programs, change firewall.Change) {
	t.Helper()
	if err := p.Apply(t.Context(), change); err != nil {
		for _, s := range change.Steps {
			t.Log(s.Text)
		}
		t.Fatal(err)
	}
}
