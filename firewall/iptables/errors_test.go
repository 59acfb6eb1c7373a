package iptables

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// TestRestoreError reads messages of the programs, versions 1.8.9.
func TestRestoreError(t *testing.T) {
	text := "*mangle\n:XFRMFW-A - [0:0]\n-A XFRMFW-A -j XFRMFW-B\n[1:2] -A XFRMFW-A -m policy --dir in --pol none -j NFLOG\n-X XFRMFW-C\nCOMMIT\n"
	exit := errors.New("exit status 1")
	has := words{"-m policy": true, "-j NFLOG": true}
	const help = "Try `iptables-restore -h' or 'iptables-restore --help' for more information."
	for _, tt := range []struct {
		name, stderr string
		has          words
		line         int
		guessed      bool
		kind         error
	}{
		{"nft commit", "iptables-nft-restore v1.8.9 (nf_tables): \nline 4: RULE_APPEND failed (Invalid argument): rule in chain XFRMFW-A", has, 4, false, nil},
		{"nft many", "iptables-nft-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (Too many links): rule in chain XFRMFW-A\nline 4: RULE_INSERT failed (Too many links): rule in chain X", has, 3, false, nil},
		{"nft option", "iptables-nft-restore v1.8.9 (nf_tables): unknown option \"--nonsense\"\nError occurred at line: 4\n" + help, has, 4, false, nil},
		{"nft chain at commit", "iptables-nft-restore v1.8.9 (nf_tables): Chain 'XFRMFW-B' does not exist\nError occurred at line: 6\n" + help, has, 3, false, nil},
		{"nft delete", "iptables-nft-restore: line 5 failed: No chain/target/match by that name.", has, 5, false, ErrChanged},
		{"nft busy", "iptables-nft-restore v1.8.9 (nf_tables): \nline 5: CHAIN_DEL failed (Device or resource busy): chain XFRMFW-C", has, 5, false, ErrChanged},
		{"nft root", "iptables-nft-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)", has, 0, false, ErrPermission},
		{"legacy line", "iptables-restore: line 5 failed", has, 5, false, ErrChanged},
		{"legacy match", "iptables-restore v1.8.9 (legacy): Couldn't load match `policy':No such file or directory\n\nError occurred at line: 4\n" + help, has, 4, false, ErrUnsupported},
		{"legacy commit", "iptables-restore: line 6 failed", has, 6, false, nil},
		{"legacy commit, no match", "iptables-restore: line 6 failed", words{"-j NFLOG": true}, 4, true, ErrUnsupported},
		{"legacy commit, no target", "iptables-restore: line 6 failed", words{"-m policy": true}, 4, true, ErrUnsupported},
		{"legacy commit, unknown", "iptables-restore: line 6 failed", nil, 6, false, nil},
		{"legacy lock", "Can't lock /run/xtables.lock: Resource temporarily unavailable\nAnother app is currently holding the xtables lock. Stopped waiting after 1s.", has, 0, false, ErrLocked},
		{"legacy lock file", "Fatal: can't open lock file /run/xtables.lock: Read-only file system", has, 0, false, ErrLockFile},
		{"nonsense", "line 99 failed", has, 0, false, nil},
		{"nothing", "", has, 0, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := restoreError(xfrm.IPv4, text, tt.stderr, exit, func(xfrm.Family) words { return tt.has })
			t.Log(e)
			if e.Line != tt.line || e.Guessed != tt.guessed || e.Table != "mangle" {
				t.Errorf("line %d, guessed %v, table %s", e.Line, e.Guessed, e.Table)
			}
			if tt.line > 0 && e.Text != strings.Split(text, "\n")[tt.line-1] {
				t.Errorf("text %q", e.Text)
			}
			if !errors.Is(e, exit) {
				t.Error("the program's exit is lost")
			}
			for _, kind := range []error{ErrPermission, ErrUnsupported, ErrLocked, ErrLockFile, ErrChanged} {
				if errors.Is(e, kind) != (kind == tt.kind) {
					t.Errorf("errors.Is(%q) = %v", kind, errors.Is(e, kind))
				}
			}
		})
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	script := func(name, version string) {
		t.Helper()
		for _, sibling := range []string{"", "-save", "-restore"} {
			if err := os.WriteFile(filepath.Join(dir, name+sibling), []byte("#!/bin/sh\necho '"+version+"'\n"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	find := func(o Options) (*Programs, error) {
		o.Dirs = []string{"/nowhere", dir}
		return Find(context.Background(), o)
	}
	var missing *NotFoundError
	if _, err := find(Options{}); !errors.As(err, &missing) || !strings.Contains(err.Error(), "apt-get install iptables") {
		t.Errorf("nothing there: %v", err)
	}
	script("iptables", "iptables v1.8.9 (nf_tables)")
	if _, err := find(Options{}); !errors.As(err, &missing) || missing.Names[0] != "ip6tables-nft" {
		t.Errorf("no ip6tables: %v", err)
	}
	p, err := find(Options{Families: []xfrm.Family{xfrm.IPv4}})
	if err != nil || p.Variant() != NFT || p.Version() != "iptables v1.8.9 (nf_tables)" || len(p.Families()) != 1 {
		t.Errorf("IPv4 alone: %+v, %v", p, err)
	}
	if _, err := find(Options{Variant: Legacy}); !errors.As(err, &missing) || !strings.Contains(err.Error(), "is of the nft variant") {
		t.Errorf("legacy forced: %v", err)
	}
	// ip6tables of another variant than iptables is not taken.
	script("ip6tables", "ip6tables v1.8.9 (legacy)")
	if _, err := find(Options{}); !errors.As(err, &missing) {
		t.Errorf("mixed: %v", err)
	}
	script("ip6tables-nft", "ip6tables v1.8.9 (nf_tables)")
	if p, err := find(Options{}); err != nil || filepath.Base(p.families[xfrm.IPv6].restore) != "ip6tables-nft-restore" {
		t.Errorf("mixed with sibling: %v", err)
	}
	script("iptables-legacy", "iptables v1.8.9 (legacy)")
	script("ip6tables-legacy", "ip6tables v1.8.9 (legacy)")
	if p, err := find(Options{Variant: Legacy}); err != nil || p.Variant() != Legacy {
		t.Errorf("legacy forced: %v", err)
	}
	script("iptables", "iptables v1.6.1")
	if _, err := find(Options{}); err == nil || !strings.Contains(err.Error(), "update iptables") {
		t.Errorf("old: %v", err)
	}
}

// TestRunEnvironment: a program sees nothing of our environment but the lock
// file's name.
func TestRunEnvironment(t *testing.T) {
	t.Setenv("XTABLES_LOCKFILE", "/tmp/x.lock")
	t.Setenv("PLUTO_PEER_ID", "$(reboot)")
	var out bytes.Buffer
	_, err := new(processes).runProgram(t.Context(), time.Minute, "", &out, "/usr/bin/env")
	want := "LC_ALL=C\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nXTABLES_LOCKFILE=/tmp/x.lock\n"
	if err != nil || out.String() != want {
		t.Errorf("%v: %s", err, &out)
	}
}

func TestRan(t *testing.T) {
	p := &Programs{started: new(processes)}
	var out bytes.Buffer
	_, err := p.started.runProgram(t.Context(), time.Minute, "", &out, "/bin/sh", "-c", "echo $$")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil || !p.Ran(pid) {
		t.Errorf("process %d (%v) is not known", pid, err)
	}
	if p.Ran(os.Getpid()) || p.Ran(0) {
		t.Error("a process is known that was never started")
	}
}

// A program is killed when it is silent for too long, and not while it prints.
func TestPatience(t *testing.T) {
	p := new(processes)
	const patience = 3 * time.Second
	var out bytes.Buffer
	_, err := p.runProgram(t.Context(), patience, "", &out, "/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done")
	if err != nil || out.String() != "1\n2\n3\n4\n5\n6\n7\n8\n" {
		t.Errorf("one that prints: %q, %v", out.String(), err)
	}
	began := time.Now()
	if _, err = p.runProgram(t.Context(), patience, "", io.Discard, "/bin/sh", "-c", "echo 1; sleep 600"); !errors.Is(err, errKilled) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that hangs: %v", err)
	}
	if took := time.Since(began); took > 2*time.Minute {
		t.Errorf("one that hangs was killed after %s", took)
	}
}
