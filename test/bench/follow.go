package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// follow measures how fast a daemon follows the kernel where nothing stands yet:
// some tunnels that come one by one, then many at once, and the stock script for
// as many. The times are from the kernel's first notification to the last of the
// commits that follow, as nf_tables tells them, so nothing is asked meanwhile.
func follow(ctx context.Context, s settings, engine string) error {
	v := variant{settings: s, name: "nft", engine: engine}
	cmd := exec.CommandContext(ctx, v.xfrmfw, append([]string{"daemon"}, v.args("state")...)...)
	var log journal
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := func() error {
		_ = cmd.Process.Signal(unix.SIGTERM)
		return cmd.Wait()
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, commits, err := watch(watching)
	if err != nil {
		return err
	}
	name, single, many := v.label()+": daemon", 300*time.Millisecond, 5*time.Second
	add := addPolicies
	if s.real {
		// An IKE daemon has the states ready before the policies.
		name, single, many = "nft, real states, emulated: daemon", time.Second, 10*time.Second
		add = func(i int) []string { return append(addStates(i), addPolicies(i)...) }
		if err := v.settle(); err != nil {
			return err
		}
	}
	// took makes a change and waits until the daemon has said that it knows so many
	// tunnels, and no commit came for so long.
	took := func(lines []string, tunnels int, quiet time.Duration) (time.Duration, uint64, error) {
		changes.first.Store(0)
		drain(commits)
		before := commits.Counts().Seen
		done := make(chan error, 1)
		go func() { done <- batch(s, lines) }()
		began := time.Now()
		last := began
		for {
			select {
			case <-commits.Dirty():
				last = time.Now()
			case <-time.After(quiet):
				if last.After(began) && log.has(fmt.Sprintf("applied: %d tunnel", tunnels)) {
					return since(&changes.first, last), commits.Counts().Seen - before, <-done
				}
				if time.Since(began) > 10*time.Minute {
					return 0, 0, fmt.Errorf("no commit for %d tunnels: %s", tunnels, &log)
				}
			}
		}
	}
	for range 3 { // its first rules, and room to breathe
		time.Sleep(many / 5)
	}
	const one = 200
	var ours []time.Duration
	for i := range one {
		t, _, err := took(add(i), i+1, single)
		if err != nil {
			return err
		}
		ours = append(ours, t)
	}
	var lines []string
	for i := range s.storm {
		lines = append(lines, add(one+i)...)
	}
	storm, n, err := took(lines, one+s.storm, many)
	if err != nil {
		return err
	}
	behind := storm - since(&changes.first, time.Unix(0, changes.last.Load()))
	for i := range one + s.storm {
		if i%100 == 0 && !v.stands(site(i).String()) {
			return fmt.Errorf("no rule for tunnel %d: %s", i, &log)
		}
	}
	if err := stop(); err != nil {
		return fmt.Errorf("the daemon: %w: %s", err, &log)
	}
	if err := v.linkPrograms(); err != nil {
		return err
	}
	if err := v.clearAll(); err != nil {
		return err
	}
	var gone, again []string
	for i := range s.storm {
		gone, again = append(gone, deletePolicies(one+i)...), append(again, addPolicies(one+i)...)
	}
	if err := batch(s, gone); err != nil {
		return err
	}
	alone, err := timed(func() error { return batch(s, again) })
	if err != nil {
		return err
	}
	var stock []time.Duration
	began := time.Now()
	for i := range s.storm {
		t, err := timed(func() error { return v.call("up-client", i) })
		if err != nil {
			return err
		}
		stock = append(stock, t)
	}
	stockStorm := time.Since(began)
	row(one, name+", event to rules, one by one, median", middle(ours), "stock `_updown`", middle(stock[:min(one, len(stock))]), "")
	row(one, name+", event to rules, one by one, worst", slices.Max(ours), "stock `_updown`, worst", slices.Max(stock[:min(one, len(stock))]), "")
	row(s.storm, fmt.Sprintf("%s, all at once, %d commits", name, n), storm, "stock `_updown` for each", stockStorm, "0.01")
	row(s.storm, name+", all at once, more than `ip` takes for the policies alone", max(0, storm-alone), "stock `_updown` for each", stockStorm, "0.01")
	row(s.storm, name+", all at once, last notification to rules", behind, "stock `_updown` for each", stockStorm, "")
	return v.clearAll()
}

// notified has the times of the kernel's first and last notification of a change in
// nanoseconds, 0 for none.
type notified struct{ first, last atomic.Int64 }

// since is how long after a notification an event was.
func since(notified *atomic.Int64, event time.Time) time.Duration {
	return max(0, event.Sub(time.Unix(0, notified.Load())))
}

// watch tells of changes in XFRM and of commits to nf_tables until ctx ends.
func watch(ctx context.Context) (changes *notified, commits *kernel.Watcher, err error) {
	changes = new(notified)
	xfrm, err := kernel.WatchFor(func(uint16, []byte) bool {
		changes.last.Store(time.Now().UnixNano())
		changes.first.CompareAndSwap(0, changes.last.Load())
		return false
	})
	if err != nil {
		return nil, nil, err
	}
	if commits, err = kernel.WatchTables(func(kernel.Committer) bool { return false }); err != nil {
		return nil, nil, err
	}
	for _, w := range []*kernel.Watcher{xfrm, commits} {
		go func() { _ = w.Run(ctx) }()
	}
	return changes, commits, nil
}

// A journal is the output of a program, read while the program writes it.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) count(words string) int { return strings.Count(j.String(), words) }

func (j *journal) has(words string) bool { return strings.Contains(j.String(), words) }

// settle has the kernel load and test the ciphers of ESP, which takes half a minute under
// emulation. A pair of states causes it, and goes away again.
func (v variant) settle() error {
	if err := batch(v.settings, addStates(0)); err != nil {
		return err
	}
	return sh("ip xfrm state flush")
}

func drain(w *kernel.Watcher) {
	select {
	case <-w.Dirty():
	default:
	}
}
