package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// daemon measures the daemon: its memory and idle time, and how long a tunnel's
// policies take to become rules.
func (v variant) daemon(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, v.xfrmfw, append([]string{"daemon"}, args...)...)
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	}()
	// It is ready when it has stopped working.
	last := -1.0
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(2 * time.Second) {
		used, _, err := usage(cmd.Process.Pid)
		if err != nil || time.Now().After(deadline) {
			return fmt.Errorf("the daemon: %v: %s", err, log.String())
		}
		if used > 0 && used == last {
			break
		}
		last = used
	}
	const idle = 10 * time.Second
	before, _, err := usage(cmd.Process.Pid)
	if err != nil {
		return err
	}
	time.Sleep(idle)
	after, resident, err := usage(cmd.Process.Pid)
	if err != nil {
		return err
	}
	fmt.Printf("| %s: daemon, resident | %d | %d MiB | | | | 64 MiB |\n", v.name, v.n, resident>>20)
	fmt.Printf("| %s: daemon, idle | %d | %.2f %% CPU | | | | 0.1 %% |\n", v.name, v.n, (after-before)/idle.Seconds()*100)

	var ups []time.Duration
	name := site(v.n).String()
	for range min(v.rounds, 3) {
		if err := batch(v.settings, addPolicies(v.n)); err != nil {
			return err
		}
		start := time.Now()
		for !v.stands(name) {
			if time.Since(start) > time.Minute {
				return fmt.Errorf("the daemon made no rule for %s: %s", name, log.String())
			}
		}
		ups = append(ups, time.Since(start))
		for _, dir := range []string{"in", "fwd"} {
			if err := sh(fmt.Sprintf("ip xfrm policy delete src %s dst %s dir %s", name, lan, dir)); err != nil {
				return err
			}
		}
		if err := sh(fmt.Sprintf("ip xfrm policy delete src %s dst %s dir out", lan, name)); err != nil {
			return err
		}
		time.Sleep(5 * time.Second) // the daemon rests as long as its turn took
	}
	fmt.Printf("| %s: daemon, policies to rules, with the asking | %d | %s | | | | |\n", v.name, v.n, ms(middle(ups)))
	return nil
}

// stands asks for the rules of the root of the tree that every new tunnel makes
// longer or leads from: whether any rule names the site.
func (v variant) stands(name string) bool {
	return sh(fmt.Sprintf("iptables-%s-save -t filter | grep -qF -- '%s'", v.name, name)) == nil
}

// usage is the seconds of CPU that a process has used, and its resident memory.
func usage(pid int) (seconds float64, resident int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	for _, i := range []int{11, 12} { // utime, stime
		ticks, err := strconv.Atoi(fields[i])
		if err != nil {
			return 0, 0, err
		}
		seconds += float64(ticks) / 100
	}
	pages, err := strconv.Atoi(fields[21])
	return seconds, pages * os.Getpagesize(), err
}
