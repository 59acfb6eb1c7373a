package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// guards measures the time from the policies of a new tunnel to its guards, beside n tunnels: from the kernel's first
// notification to the daemon's line after its last commit. Each of 100 tunnels comes alone and goes again. The engine is
// nft or legacy, the variants of iptables, or nftables.
func guards(ctx context.Context, s settings, engine string) error {
	arguments := []string{"daemon", "--state-dir", filepath.Join(s.dir, "state"), "--run-dir", filepath.Join(s.dir, "run")}
	save := "nft list table inet xfrmfw"
	switch engine {
	case "nftables":
		arguments = append(arguments, "--engine", engine)
	case "nft", "legacy":
		arguments = append(arguments, "--variant", engine)
		save = "iptables-" + engine + "-save"
	default:
		return fmt.Errorf("no engine %q: use nft, legacy or nftables", engine)
	}
	log := &applies{}
	cmd := exec.CommandContext(ctx, s.xfrmfw, arguments...)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	}()
	if _, err := log.after(0); err != nil {
		return err
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, _, err := watch(watching)
	if err != nil {
		return err
	}
	// took makes a change and returns the time until its last line.
	took := func(lines []string) (time.Duration, error) {
		time.Sleep(max(100*time.Millisecond, 3*log.turn)) // the daemon rests as long as its turn took
		changes.first.Store(0)
		before := log.lines()
		done := make(chan error, 1)
		go func() { done <- batch(s, lines) }()
		last, err := log.after(before)
		if err != nil {
			return 0, err
		}
		log.turn = since(&changes.first, last)
		return log.turn, <-done
	}
	const times = 100
	var ours []time.Duration
	for i := range times {
		number := s.n + 1 + 2*i // without a neighbour, with which it would share a rule
		t, err := took(addPolicies(number))
		if err != nil {
			return err
		}
		ours = append(ours, t)
		network, _, _ := strings.Cut(site(number).String(), "/")
		if i%10 == 0 && sh(save+" | grep -q "+network) != nil {
			return fmt.Errorf("no rule for tunnel %d: %s", number, &log.journal)
		}
		if _, err := took(removePolicies(number)); err != nil {
			return err
		}
	}
	fmt.Printf("| %s: policies to guards, of %d tunnels one by one | %d | median %s, worst %s | | | | |\n", engine, times, s.n, ms(middle(ours)), ms(slices.Max(ours)))
	return nil
}

// removePolicies takes the policies of tunnel i away.
func removePolicies(i int) []string {
	var lines []string
	for _, p := range policies(i, false) {
		lines = append(lines, fmt.Sprintf("xfrm policy delete src %s dst %s dir %s", p.Selector.Src, p.Selector.Dst, p.Dir))
	}
	return lines
}

// applies is the output of a daemon, with the time of its last line about rules that it wrote.
type applies struct {
	journal
	mu   sync.Mutex
	n    int
	last time.Time
	turn time.Duration // of the last change
}

func (a *applies) Write(p []byte) (int, error) {
	if n := strings.Count(string(p), "applied:"); n > 0 {
		a.mu.Lock()
		a.n, a.last = a.n+n, time.Now()
		a.mu.Unlock()
	}
	return a.journal.Write(p)
}

func (a *applies) lines() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.n
}

// after waits for a line after the first so many, and until none follows for as long as two turns.
func (a *applies) after(lines int) (time.Time, error) {
	began := time.Now()
	for time.Since(began) < time.Minute {
		time.Sleep(time.Millisecond)
		a.mu.Lock()
		n, last := a.n, a.last
		a.mu.Unlock()
		if n > lines && time.Since(last) > max(100*time.Millisecond, 2*last.Sub(began)) {
			return last, nil
		}
	}
	return time.Time{}, fmt.Errorf("the daemon wrote no rules: %s", &a.journal)
}
