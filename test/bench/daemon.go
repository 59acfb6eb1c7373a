package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// daemon measures the daemon: its memory and idle time, and how long a tunnel's
// policies take to become rules.
func (v variant) daemon(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, v.xfrmfw, append([]string{"daemon"}, args...)...)
	var log journal
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	}()
	// It is ready when it has said so, given memory back, and stopped working.
	for deadline := time.Now().Add(2 * time.Minute); !v.reconciled(); time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			return fmt.Errorf("the daemon does nothing: %s", log.String())
		}
	}
	time.Sleep(3 * time.Second)
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
	fmt.Printf("| %s: daemon, resident | %d | %d MiB | | | | 64 MiB |\n", v.label(), v.n, resident>>20)
	fmt.Printf("| %s: daemon, idle | %d | %.2f %% CPU | | | | 0.1 %% |\n", v.label(), v.n, (after-before)/idle.Seconds()*100)

	if err := v.rekeys(cmd.Process.Pid, &log); err != nil {
		return err
	}

	var ups []time.Duration
	for round := range min(v.rounds, 3) {
		// Each round has a new site, because the daemon remembers the old ones.
		name := site(v.n + round).String()
		if err := batch(v.settings, addPolicies(v.n+round)); err != nil {
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
	fmt.Printf("| %s: daemon, policies to rules, with the asking | %d | %s | | | | |\n", v.label(), v.n, ms(middle(ups)))
	return nil
}

// reconciled reports whether the daemon has seen to the rules once.
func (v variant) reconciled() bool {
	files, _ := filepath.Glob(filepath.Join(v.dir, "run", "reconciled-*.json"))
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), `"daemon"`) {
			return true
		}
	}
	return false
}

// rekeys measures the daemon's work while each tunnel is rekeyed once an hour. Where the
// machine's kernel has no ESP, states are not real. There the kernel notifies the daemon
// of each tunnel's three policies, renewed unchanged, and of the end of its larval state.
// These are as many messages as two pairs of states would cause, and as dear to judge.
func (v variant) rekeys(pid int, log *journal) error {
	const seconds = 20
	applied := log.count("applied")
	before, _, err := usage(pid)
	if err != nil {
		return err
	}
	rate := float64(v.n) / 3600
	start := time.Now()
	done := 0
	for second := range seconds {
		var lines []string
		for ; float64(done) < rate*float64(second+1); done++ {
			if v.real {
				lines = append(lines, rekey(done%v.n)...)
				continue
			}
			for _, line := range addPolicies(done % v.n) {
				lines = append(lines, strings.Replace(line, "policy add", "policy update", 1))
			}
			lines = append(lines, fmt.Sprintf("xfrm state delete src %s dst %s proto esp spi %#x", peer(done%v.n), wanAddr.Addr(), 0x1000+done%v.n))
		}
		if err := batch(v.settings, lines); err != nil {
			return err
		}
		time.Sleep(time.Until(start.Add(time.Duration(second+1) * time.Second)))
	}
	after, _, err := usage(pid)
	if err != nil {
		return err
	}
	fmt.Printf("| %s: daemon, each tunnel rekeyed hourly, %d applies | %d | %.2f %% CPU | | | | 2 %%, none |\n",
		v.label(), log.count("applied")-applied, v.n, (after-before)/time.Since(start).Seconds()*100)
	return nil
}

// rekey gives tunnel i its next pair of states, and takes the first away.
func rekey(i int) []string {
	lines := addGeneration(i, 1)
	for _, s := range states(i, 0) {
		lines = append(lines, fmt.Sprintf("xfrm state delete src %s dst %s proto esp spi %#x", s.Src, s.Dst, s.SPI))
	}
	return lines
}

// stands reports whether the rule stands that verifies a site's packets. Its guards
// may be one with its neighbours'.
func (v variant) stands(name string) bool {
	if v.engine != "" {
		addr, _, _ := strings.Cut(name, "/")
		return sh(fmt.Sprintf("nft list table inet xfrmfw | grep -q -- ' \\. %s \\. '", addr)) == nil
	}
	return sh(fmt.Sprintf("iptables-%s-save -t mangle | grep -q -- '^-A XFRMFW-SEL.* -s %s '", v.name, name)) == nil
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
