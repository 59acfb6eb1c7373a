package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// A standIn puts shell scripts in the place of some of the host's iptables programs, for the processes that are started
// with it and nobody else.
type standIn struct{ dir string }

// newStandIn takes the scripts by the program that they stand in for, "-save" or
// "-restore". In them real is the real program, $0 the name of the call, and /run/xfrmfw
// the host's own folder.
func newStandIn(t *testing.T, scripts map[string]string) standIn {
	t.Helper()
	s := standIn{t.TempDir()}
	for _, command := range []string{"iptables", "ip6tables"} {
		for ending, script := range scripts {
			script = fmt.Sprintf("#!/bin/sh\nreal() { /usr/sbin/xtables-%s-multi %s \"$@\"; }\n%s", lab.Variant(), command+ending, script)
			for _, name := range []string{command + ending, command + "-" + lab.Variant() + ending} {
				if err := os.WriteFile(filepath.Join(s.dir, name), []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return s
}

// args are the arguments of sh for a command in which "$@" is xfrmfw with arguments of its own.
func (s standIn) args(t *testing.T, command string, args []string) []string {
	t.Helper()
	command = `mount -t overlay -o lowerdir="$0":/usr/sbin overlay /usr/sbin || exit; ` + command
	return append([]string{"-c", command, s.dir, lab.Binary(t)}, args...)
}

// xfrmfw runs the program under test to its end.
func (s standIn) xfrmfw(t *testing.T, h *lab.Host, args ...string) lab.Result {
	t.Helper()
	return h.Call(t, nil, "", "sh", s.args(t, `exec "$@"`, args)...)
}

// manyTimes runs it 49 times at once; each that fails is a word on stdout.
func (s standIn) manyTimes(t *testing.T, h *lab.Host, args ...string) lab.Result {
	t.Helper()
	return h.Call(t, nil, "", "sh", s.args(t, `for i in $(seq 49); do { "$@" || echo failed; } & done; wait`, args)...)
}

// start leaves it running.
func (s standIn) start(t *testing.T, h *lab.Host, args ...string) *lab.Process {
	t.Helper()
	return h.Start(t, nil, "sh", s.args(t, `exec "$@"`, args)...)
}

// logsRestores has each iptables-restore leave a line when it begins and one when it ends.
const logsRestores = `echo begin >>/run/xfrmfw/restores
real "$@"
code=$?
echo end >>/run/xfrmfw/restores
exit $code
`

// logged are the lines that stand-ins wrote into a file of the host's /run/xfrmfw; the file is then gone.
func logged(t *testing.T, h *lab.Host, name string) []string {
	t.Helper()
	path := filepath.Join(h.RunDir(), name)
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// saves are all rules of both families, without counters.
func saves(t *testing.T, h *lab.Host) string {
	t.Helper()
	return h.Save(t, lab.IPv4) + h.Save(t, lab.IPv6)
}

// inSync fails the test unless check finds the live rules to be those that the kernel's policies ask for.
func inSync(t *testing.T, h *lab.Host) {
	t.Helper()
	if r := h.Xfrmfw(t, "check"); r.Code != 0 || !strings.HasPrefix(r.Stdout, "in sync") {
		t.Fatalf("%s: check: exit status %d\n%s%s", h.Name, r.Code, r.Stdout, r.Stderr)
	}
}

// outOfSync fails the test unless check finds differences.
func outOfSync(t *testing.T, h *lab.Host) {
	t.Helper()
	r := h.Xfrmfw(t, "check")
	if answer, _, _ := strings.Cut(r.Stdout, "\n"); r.Code != 3 || !strings.HasSuffix(answer, "with: xfrmfw apply") {
		t.Fatalf("%s: check: exit status %d, want 3\n%s%s", h.Name, r.Code, r.Stdout, r.Stderr)
	}
}

// forget removes the state directory's files on a host: xfrmfw's memory of tunnels that
// are gone.
func forget(t *testing.T, h *lab.Host) {
	t.Helper()
	kept, err := filepath.Glob(filepath.Join(h.StateDir(), "*"))
	if err != nil {
		t.Fatal(err)
	}
	copies, err := filepath.Glob(filepath.Join(h.RunDir(), "memory*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(kept, copies...) {
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}
}

func prefixes(words ...string) (found []netip.Prefix) {
	for _, word := range words {
		found = append(found, netip.MustParsePrefix(word))
	}
	return found
}
