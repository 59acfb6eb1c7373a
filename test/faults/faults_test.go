package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// each runs a test with both variants, for a part of the rounds where one takes
// long: until a program that hangs is killed, or until the next audit.
func each(t *testing.T, what string, part int, test func(t *testing.T, h *host)) {
	of(t, []string{"nft", "legacy"}, what, part, test)
}

// of is each for some variants.
func of(t *testing.T, variants []string, what string, part int, test func(t *testing.T, h *host)) {
	for _, variant := range variants {
		t.Run(variant, func(t *testing.T) {
			h := newHost(t, variant)
			for range max(1, rounds(t)/part) {
				test(t, h)
				if t.Failed() {
					return
				}
			}
			h.report(what)
		})
	}
}

// Notifications come faster than they fit the receive buffer.
func TestLostNotifications(t *testing.T) {
	of(t, []string{"nft", "legacy", table}, "notifications lost in a storm", 1, func(t *testing.T, h *host) {
		before := h.metric("xfrmfw_events_lost_total")
		for h.metric("xfrmfw_events_lost_total") == before {
			h.storm()
		}
		h.right("a storm of which notifications were lost")
	})
}

// Tunnels come and go while the daemon reads the kernel, of which many tunnels make a long
// look, and while it writes the memory.
func TestStepsBesideLooks(t *testing.T) {
	of(t, []string{table}, "tunnels that change during looks", 1, func(t *testing.T, h *host) {
		var many strings.Builder
		for i := range 600 {
			fmt.Fprintf(&many, "xfrm policy update src 10.%[1]d.%[2]d.0/24 dst 10.1.0.0/24 dir in tmpl src 198.51.100.1 dst 192.0.2.1 proto esp reqid %[3]d mode tunnel\n", 3+i/200, i%200, 1000+i)
		}
		h.batch(many.String())
		h.right("many tunnels came")
		// The first event after a load has its step, before the look that follows, which waits while
		// other tunnels have their steps, for some seconds. On a busy machine it may have ended before
		// we see the step: then once more.
		looks := 0
		for tries := 1; tries == 1 || looks > 0 && tries <= 5; tries++ {
			h.kill(syscall.SIGTERM)
			if h.tunnels[20] {
				h.tunnel(20, false)
			}
			h.run(binary, h.args("clear")...)
			h.start()
			h.right("all is loaded")
			applied := func() int { return strings.Count(h.log.String(), "applied:") }
			before := applied()
			h.tunnel(20, true)
			stop := h.trickle(22)
			h.eventually("the tunnel is not in the table", func() bool { return h.missingElement() == "" })
			looks = applied() - before
			stop()
		}
		if looks > 0 {
			t.Error("a look came before the step")
		}
		for range 12 {
			// A new address has the daemon look at all.
			h.run("ip", "address", "add", fmt.Sprintf("203.0.113.%d/32", 1+h.rnd.IntN(200)), "dev", "lo")
			time.Sleep(time.Duration(h.rnd.IntN(300)) * time.Millisecond)
			for range 1 + h.rnd.IntN(3) {
				n := h.rnd.IntN(20)
				h.tunnel(n, !h.tunnels[n])
				if h.rnd.IntN(3) == 0 { // again at once: both are one step's, or two
					h.tunnel(n, !h.tunnels[n])
				}
				time.Sleep(time.Duration(h.rnd.IntN(60)) * time.Millisecond)
			}
			h.run("ip", "address", "flush", "dev", "lo", "scope", "global")
		}
		h.right("tunnels changed during looks")
		if h.metric("xfrmfw_drift_repaired_total") > 0 {
			t.Error("the daemon took a step of its own for a change by others")
		}
	})
}

// Others flush all rules, or put theirs before ours.
func TestForeignFlush(t *testing.T) {
	of(t, []string{"nft", "legacy", table}, "all rules flushed by others", 4, func(t *testing.T, h *host) {
		before := h.metric("xfrmfw_drift_repaired_total")
		switch way := h.rnd.IntN(3); {
		case h.variant == table:
			// In the middle of steps and looks it is mended, and not told from a change that was due.
			for _, what := range []string{"set inet xfrmfw known", "chain inet xfrmfw pre"} {
				h.storm()
				h.run("nft", strings.Fields("flush "+what)...)
				h.right("others changed the table in a storm")
			}
			before = h.metric("xfrmfw_drift_repaired_total")
			h.run("nft", "flush", "ruleset")
		case way == 0:
			for _, family := range []string{"iptables-", "ip6tables-"} {
				for _, table := range []string{"filter", "nat", "mangle"} {
					h.run(family+h.variant, "-w", "-t", table, "-F")
				}
			}
		case way == 1:
			for _, chain := range []string{"PREROUTING", "INPUT", "FORWARD", "POSTROUTING"} {
				h.run("iptables-"+h.variant, "-w", "-t", "mangle", "-I", chain, "-j", "ACCEPT")
			}
		default:
			if h.variant == "nft" {
				h.run("nft", "flush", "ruleset")
				break
			}
			h.run("iptables-"+h.variant, "-w", "-t", "mangle", "-D", "PREROUTING", "1")
		}
		h.right("others changed the rules")
		// The page is made once a second at most.
		h.eventually("the repair was not counted", func() bool { return h.metric("xfrmfw_drift_repaired_total") != before })
	})
}

// The restore programs fail or hang for a while, in which the tunnels change.
func TestRestoreFails(t *testing.T) {
	for _, mode := range []string{"fail", "hang"} {
		t.Run(mode, func(t *testing.T) {
			each(t, "iptables-restore that would "+mode, 10, func(t *testing.T, h *host) {
				h.mode(mode)
				h.storm()
				h.tunnel(21, !h.tunnels[21])
				time.Sleep(time.Duration(h.rnd.IntN(2000)) * time.Millisecond)
				if h.wrong() == "" {
					t.Error("the rules are right though nothing could be restored")
				}
				if mode == "fail" {
					h.eventually("status says nothing of the failure", func() bool { return strings.Contains(h.run(binary, h.args("status")...), "broken") })
				}
				h.mode("work")
				h.right("iptables-restore works again")
			})
		})
	}
}

// The kernel changes while the live rules are read: rules compiled meanwhile from the
// kernel as it was do not count, for a command that shows as for one that applies.
func TestChangedWhileRulesAreRead(t *testing.T) {
	for _, variant := range []string{"nft", "legacy"} {
		t.Run(variant, func(t *testing.T) {
			h := newHost(t, variant)
			h.kill(syscall.SIGTERM)
			// late has a tunnel come up while the command reads the rules.
			late := func(n int, command string) (string, int) {
				for name, text := range map[string]string{"later": h.policies(n, true), "late": "", "mode": "late\n"} {
					if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				cmd := exec.Command(binary, h.args(command)...)
				out, _ := cmd.CombinedOutput()
				h.mode("work")
				return string(out), cmd.ProcessState.ExitCode()
			}
			if out, exit := late(30, "check"); exit != 3 || !strings.Contains(out, "6 tunnels") && !strings.Contains(out, "XFRMFW-") {
				t.Errorf("a tunnel that has no rules yet: check exits with %d and says %s", exit, out)
			}
			if out, exit := late(31, "apply"); exit != 0 || !strings.Contains(out, "7 tunnels") {
				t.Errorf("apply exits with %d and says %s", exit, out)
			}
			if why := h.wrong(); why != "" {
				t.Error(why)
			}
			h.start() // for the cleanup, which ends it
		})
	}
}

// The disk is full where the memory is kept.
func TestDiskFull(t *testing.T) {
	each(t, "no room for the memory", 2, func(t *testing.T, h *host) {
		state := h.path("state")
		if err := unix.Mount("tmpfs", state, "tmpfs", 0, "size=4k,mode=0700"); err != nil {
			t.Fatal(err)
		}
		h.write("state/full", strings.Repeat("x", 4096))
		h.storm()
		h.right("the memory can't be written")
		h.eventually("the daemon says nothing of it", func() bool { return strings.Contains(h.log.String(), "until the next boot") })
		// The daemon may have it open for a moment.
		h.eventually("the full disk can't be unmounted", func() bool { return unix.Unmount(state, 0) == nil })
		h.storm()
		h.right("there is room again")
		h.eventually("the memory is not written, now that it could be", func() bool {
			text, _ := os.ReadFile(h.path("state/memory.json"))
			return strings.Count(string(text), `"remote"`) >= 5
		})
	})
}

// The daemon is killed at any moment of a storm, and started again as systemd
// does.
func TestKilled(t *testing.T) {
	of(t, []string{"nft", "legacy", table}, "killed with -9 in a storm", 1, func(t *testing.T, h *host) {
		killed := make(chan struct{})
		wait := time.Duration(h.rnd.IntN(500)) * time.Millisecond
		go func() {
			defer close(killed)
			time.Sleep(wait)
			_ = h.cmd.Process.Kill()
		}()
		h.storm()
		h.storm()
		<-killed
		<-h.exited
		h.start()
		h.right("the daemon was killed and started again")
	})
}

// It reads its configuration again and again while tunnels come and go, and
// while others apply.
func TestReloadsAndApplies(t *testing.T) {
	of(t, []string{"nft", "legacy", table}, "reloads and applies in a storm", 4, func(t *testing.T, h *host) {
		others := exec.Command(binary, h.args("apply")...)
		if err := others.Start(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			h.storm()
			_ = h.cmd.Process.Signal(syscall.SIGHUP)
		}
		if err := others.Wait(); err != nil {
			t.Errorf("apply beside the daemon: %v", err)
		}
		h.right("reloads and an apply")
	})
}
