package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// crowd measures how fast a daemon follows one tunnel that goes down or comes up while
// all others are there. The time is from the kernel's first notification, and from the last
// because the kernel takes long to delete one of many policies, to the last commit, or with a table to the elements that guard and verify, or no longer verify.
// nf_tables notifies of both; with legacy a change in the sizes of the tables, read again
// and again, shows it. The floor is the work of any program: to read
// the kernel and to restore the chains of such a tunnel.
func (v variant) crowd(ctx context.Context) error {
	args := v.args("crowd")
	cmd := exec.CommandContext(ctx, v.xfrmfw, append([]string{"daemon"}, args...)...)
	var log journal
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := false
	defer func() {
		if !ended {
			_ = cmd.Process.Signal(unix.SIGTERM)
			_ = cmd.Wait()
		}
	}()
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, commits, err := watch(watching)
	if err != nil {
		return err
	}
	elements, err := watchElements(watching)
	if err != nil {
		return err
	}
	for began := time.Now(); !v.reconciled(); time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > 5*time.Minute {
			return fmt.Errorf("the daemon makes no rules: %s", &log)
		}
	}
	// follow makes a change and returns how long the daemon took from the first notification,
	// and from the last.
	follow := func(lines []string, round int, up bool) (fromFirst, fromLast time.Duration, err error) {
		time.Sleep(3 * time.Second) // it rests as long as its turn took, and tidies up
		changes.first.Store(0)
		drain(commits)
		elements.drain()
		before := log.count("applied: ")
		done := make(chan error, 1)
		go func() { done <- batch(v.settings, lines) }()
		began := time.Now()
		last := began
		sizes := ""
		for log.count("applied: ") == before {
			select {
			case <-commits.Dirty():
				last = time.Now()
			case <-time.After(time.Millisecond):
			}
			if v.name != "nft" {
				now, err := legacySizes()
				if err != nil {
					return 0, 0, err
				}
				if sizes != "" && now != sizes {
					last = time.Now()
				}
				sizes = now
			}
			if time.Since(began) > time.Minute {
				return 0, 0, fmt.Errorf("the daemon doesn't follow: %s", &log)
			}
		}
		if v.engine != "" {
			if last, err = elements.inForce(site(round).Addr(), up); err != nil {
				return 0, 0, fmt.Errorf("%w: %s", err, &log)
			}
		}
		if last.Equal(began) {
			return 0, 0, fmt.Errorf("no commit was seen: %s", &log)
		}
		return since(&changes.first, last), since(&changes.last, last), <-done
	}
	var took, behind [2][]time.Duration
	for round := range v.rounds {
		for i, lines := range [][]string{deletePolicies(round), addPolicies(round)} {
			t, late, err := follow(lines, round, i == 1)
			if err != nil {
				return err
			}
			took[i], behind[i] = append(took[i], t), append(behind[i], late)
		}
	}
	_ = cmd.Process.Signal(unix.SIGTERM)
	ended = true
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("the daemon: %w: %s", err, &log)
	}
	var floors [2][]time.Duration
	against := "snapshot + bare restore of the touched chains"
	if v.engine != "" {
		against = "one snapshot"
		var reader kernel.Reader
		alone, e := median(v.rounds, func(int) (time.Duration, error) {
			return timed(func() error { _, err := reader.Read(ctx); return err })
		})
		floors, err = [2][]time.Duration{{alone}, {alone}}, e
	} else {
		floors, err = v.floors(ctx)
	}
	if err != nil {
		return err
	}
	for i, what := range []string{"down", "up"} {
		row(v.n, fmt.Sprintf("%s: daemon, one tunnel %s, event to rules, median", v.label(), what), middle(took[i]), against, middle(floors[i]), "1.5")
		row(v.n, fmt.Sprintf("%s: daemon, one tunnel %s, event to rules, worst", v.label(), what), slices.Max(took[i]), against, middle(floors[i]), "")
		row(v.n, fmt.Sprintf("%s: daemon, one tunnel %s, last notification to rules, median", v.label(), what), middle(behind[i]), against, middle(floors[i]), "")
	}
	if v.engine != "" {
		if err := v.beside(took); err != nil {
			return err
		}
	}
	return v.clearAll()
}

// beside shows the times of one tunnel down and up beside those of the stock script.
func (v variant) beside(took [2][]time.Duration) error {
	up, down, err := v.stockTimes()
	if err != nil {
		return err
	}
	const few = 1000
	for i, stock := range []time.Duration{down, up} {
		what, reach := [2]string{"down", "up"}[i], "1"
		if v.n > few {
			reach = [2]string{"1/20", "1/2"}[i]
		}
		row(v.n, fmt.Sprintf("%s: daemon, one tunnel %s, event to rules, median", v.label(), what), middle(took[i]), "stock `_updown iptables`", stock, reach)
	}
	return nil
}

// floors is the time to read the kernel, and the time to restore the chains that one
// tunnel less or more changes.
func (v variant) floors(ctx context.Context) (floors [2][]time.Duration, err error) {
	var compiler compile.Compiler
	var tracker plan.Tracker
	var reader kernel.Reader
	have := make(map[xfrm.Family]live.Tables)
	for family, word := range map[xfrm.Family]string{xfrm.IPv4: "iptables", xfrm.IPv6: "ip6tables"} {
		text, err := exec.CommandContext(ctx, word+"-"+v.name+"-save", "-c").Output()
		if err != nil {
			return floors, err
		}
		if have[family], err = live.Parse(text); err != nil {
			return floors, err
		}
	}
	tracker.Observed(have)
	turn := func() (time.Duration, error) {
		start := time.Now()
		s, err := reader.Read(ctx)
		if err != nil {
			return 0, err
		}
		read := time.Since(start)
		change, err := tracker.Plan(compiler.Compile(input(s)).Rulesets)
		if err != nil {
			return 0, err
		}
		commands, err := v.steps(change)
		if err != nil {
			return 0, err
		}
		restored := time.Now()
		if commands != "" {
			if err := sh(commands); err != nil {
				return 0, err
			}
		}
		floor := read + time.Since(restored)
		return floor, tracker.Applied(change)
	}
	// The daemon remembers more than this tracker does.
	if _, err := turn(); err != nil {
		return floors, err
	}
	for round := range v.rounds {
		for i, lines := range [][]string{deletePolicies(round), addPolicies(round)} {
			if err := batch(v.settings, lines); err != nil {
				return floors, err
			}
			t, err := turn()
			if err != nil {
				return floors, err
			}
			floors[i] = append(floors[i], t)
		}
	}
	return floors, nil
}

// deletePolicies are the lines that take the policies of tunnel i away.
func deletePolicies(i int) []string {
	var lines []string
	for _, line := range addPolicies(i) {
		line, _, _ = strings.Cut(strings.Replace(line, "policy add", "policy delete", 1), " priority ")
		lines = append(lines, line)
	}
	return lines
}
