package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// variant measures the changes to the rules with one variant of iptables.
type variant struct {
	settings
	name string
	// engine is "nftables", or empty for the iptables engine.
	engine string
}

// measure does all, or only one.
func (v variant) measure(ctx context.Context, only string) error {
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{{"empty", v.fromEmpty}, {"one", v.oneTunnel}, {"stock", v.stock}, {"program", v.program}, {"crowd", v.crowd}} {
		if only != "" && only != part.name {
			continue
		}
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
	}
	return nil
}

// restore is the command for one step of a change.
func (v variant) restore(s plan.Step, file string) string {
	word := "iptables"
	if s.Family == xfrm.IPv6 {
		word = "ip6tables"
	}
	counters := ""
	if s.Counters {
		counters = " --counters"
	}
	return fmt.Sprintf("%s-%s-restore --noflush%s <%s", word, v.name, counters, file)
}

// steps writes the texts of a change into files and returns the commands.
func (v variant) steps(change plan.Change) (string, error) {
	var commands []string
	for i, s := range change.Steps {
		file := filepath.Join(v.dir, fmt.Sprintf("step%d", i))
		if err := os.WriteFile(file, []byte(s.Text), 0o600); err != nil {
			return "", err
		}
		commands = append(commands, v.restore(s, file))
	}
	return strings.Join(commands, " && "), nil
}

// fromEmpty applies all tunnels where there are no rules yet, in a network
// namespace for each time, and beside it one chain with one rule a tunnel.
func (v variant) fromEmpty(ctx context.Context) error {
	file, err := v.bareChain()
	if err != nil {
		return err
	}
	for _, numbers := range numberings() {
		if err := v.fromEmptyAs(ctx, numbers, file); err != nil {
			return err
		}
	}
	return nil
}

// bareChain writes the text of one chain with one rule a tunnel into a file.
func (v variant) bareChain() (file string, err error) {
	var bare strings.Builder
	bare.WriteString("*filter\n:ONE - [0:0]\n")
	for i := range v.n {
		fmt.Fprintf(&bare, "-A ONE -s %s -d %s -m mark --mark 0x10000000/0x10000000 -m policy --dir in --pol ipsec --reqid %d --proto esp -m comment --comment xfrmfw:AAAAAAAAAAAA/verified/t%010x -j ACCEPT\n",
			site(i), lan, reqid(i), i)
	}
	bare.WriteString("COMMIT\n")
	file = filepath.Join(v.dir, "bare")
	return file, os.WriteFile(file, []byte(bare.String()), 0o600)
}

// fromEmptyAs is fromEmpty with sites numbered in one way, beside the text in a file.
func (v variant) fromEmptyAs(ctx context.Context, numbers numbering, bare string) error {
	none := map[xfrm.Family]live.Tables{xfrm.IPv4: {}, xfrm.IPv6: {}}
	up := numbers.of(v.n)
	var reader kernel.Reader
	var full, floors []time.Duration
	rules, chains := 0, 0
	for range min(v.rounds, 3) {
		t, err := timed(func() error { return sh(fmt.Sprintf("unshare -n iptables-%s-restore --noflush <%s", v.name, bare)) })
		if err != nil {
			return err
		}
		floors = append(floors, t)
		t, err = timed(func() error {
			if _, err := reader.Read(ctx); err != nil {
				return err
			}
			change, err := plan.Make(compile.Compile(input(up)).Rulesets, none)
			if err != nil {
				return err
			}
			rules, chains = 0, 0
			for _, s := range change.Steps {
				rules, chains = rules+s.Counts.Rules, chains+s.Counts.Written
			}
			commands, err := v.steps(change)
			if err != nil {
				return err
			}
			return sh("unshare -n sh -c '" + commands + "'")
		})
		if err != nil {
			return err
		}
		full = append(full, t)
	}
	what := fmt.Sprintf("%s: full apply from empty, %d rules in %d chains%s", v.name, rules, chains, numbers.name)
	row(v.n, what, middle(full), "bare restore, one rule a tunnel", middle(floors), "2")
	return nil
}

// oneTunnel takes one of the tunnels down and up again, and plans by the rules known to
// stand, as the daemon does.
func (v variant) oneTunnel(ctx context.Context) error {
	var up, down time.Duration
	for i, numbers := range slices.Backward(numberings()) {
		var err error
		if up, down, err = v.oneTunnelOf(ctx, numbers); err != nil {
			return err
		}
		if i > 0 {
			if err := v.clearAll(); err != nil {
				return err
			}
		}
	}
	return v.stockBeside(up, down)
}

// oneTunnelOf is oneTunnel with sites numbered in one way.
func (v variant) oneTunnelOf(ctx context.Context, numbers numbering) (goesUp, goesDown time.Duration, err error) {
	var compiler compile.Compiler
	var tracker plan.Tracker
	var reader kernel.Reader
	tracker.Observed(map[xfrm.Family]live.Tables{xfrm.IPv4: {}, xfrm.IPv6: {}})
	turn := func(s xfrm.Snapshot) (whole, floor time.Duration, err error) {
		start := time.Now()
		if _, err := reader.Read(ctx); err != nil {
			return 0, 0, err
		}
		read := time.Since(start)
		change, err := tracker.Plan(compiler.Compile(inputOf(s, xfrm.Tunnels(s))).Rulesets)
		if err != nil {
			return 0, 0, err
		}
		commands, err := v.steps(change)
		if err != nil {
			return 0, 0, err
		}
		restored := time.Now()
		if err := sh(commands); err != nil {
			return 0, 0, err
		}
		floor = read + time.Since(restored)
		err = tracker.Applied(change)
		return time.Since(start), floor, err
	}
	up, fewer := numbers.of(v.n), numbers.of(v.n-1)
	if _, _, err := turn(up); err != nil {
		return 0, 0, err
	}
	var wholes, floors [2][]time.Duration
	for range v.rounds {
		for i, s := range []xfrm.Snapshot{fewer, up} {
			whole, floor, err := turn(s)
			if err != nil {
				return 0, 0, err
			}
			wholes[i], floors[i] = append(wholes[i], whole), append(floors[i], floor)
		}
	}
	against := "snapshot + bare restore of the touched chains"
	row(v.n, v.name+": one tunnel down"+numbers.name, middle(wholes[0]), against, middle(floors[0]), "1.5")
	row(v.n, v.name+": one tunnel up"+numbers.name, middle(wholes[1]), against, middle(floors[1]), "1.5")
	return middle(wholes[1]), middle(wholes[0]), nil
}

// call runs the stock script for one tunnel.
func (v variant) call(verb string, i int) error {
	cmd := exec.Command(v.updown, "iptables")
	cmd.Env = []string{
		"XTABLES_LOCKFILE=" + os.Getenv("XTABLES_LOCKFILE"), "PATH=" + filepath.Join(v.dir, "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin", "PLUTO_VERSION=1.1", "PLUTO_VERB=" + verb,
		"PLUTO_CONNECTION=site", "PLUTO_INTERFACE=wan0", "PLUTO_PROTO=esp", "PLUTO_ME=" + wanAddr.Addr().String(), "PLUTO_PEER=" + peer(i).String(),
		"PLUTO_MY_CLIENT=" + lan.String(), "PLUTO_PEER_CLIENT=" + site(i).String(), fmt.Sprintf("PLUTO_REQID=%d", reqid(i)),
		"PLUTO_MY_PORT=0", "PLUTO_PEER_PORT=0", "PLUTO_MY_PROTOCOL=all", "PLUTO_PEER_PROTOCOL=all", "PLUTO_UNIQUEID=1",
	}
	if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "logger") {
		return fmt.Errorf("%s %s: %w: %.300s", v.updown, verb, err, out)
	}
	return nil
}

// stockRules puts two rules a tunnel into FORWARD, as the script would have.
func (v variant) stockRules(n int) error {
	var b strings.Builder
	b.WriteString("*filter\n")
	for i := range n {
		fmt.Fprintf(&b, "-A FORWARD -s %s -d %s -i wan0 -m policy --dir in --pol ipsec --reqid %d --proto esp -j ACCEPT\n", site(i), lan, reqid(i))
		fmt.Fprintf(&b, "-A FORWARD -s %s -d %s -o wan0 -m policy --dir out --pol ipsec --reqid %d --proto esp -j ACCEPT\n", lan, site(i), reqid(i))
	}
	b.WriteString("COMMIT\n")
	file := filepath.Join(v.dir, "stock")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return sh(fmt.Sprintf("iptables-%s-restore --noflush <%s", v.name, file))
}

// linkPrograms has the stock script find the programs of this variant.
func (v variant) linkPrograms() error {
	if err := os.MkdirAll(filepath.Join(v.dir, "bin"), 0o755); err != nil {
		return err
	}
	err := os.Symlink("/usr/sbin/iptables-"+v.name, filepath.Join(v.dir, "bin", "iptables"))
	if errors.Is(err, fs.ErrExist) {
		return nil // an earlier part made it
	}
	return err
}

// clearAll empties the tables of this namespace.
func (v variant) clearAll() error {
	if v.engine != "" {
		if err := sh("nft destroy table inet xfrmfw 2>/dev/null || nft 'add table inet xfrmfw; delete table inet xfrmfw'"); err != nil {
			return err
		}
	}
	for _, word := range []string{"iptables", "ip6tables"} {
		for _, table := range []string{"mangle", "nat", "filter"} {
			if err := sh(fmt.Sprintf("printf '*%s\\nCOMMIT\\n' | %s-%s-restore", table, word, v.name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// stockBeside measures the stock script with as many tunnels up.
func (v variant) stockBeside(up, down time.Duration) error {
	stockUp, stockDown, err := v.stockTimes()
	if err != nil {
		return err
	}
	row(v.n, v.name+": one tunnel down", down, "stock `_updown`", stockDown, "1/3 on nft")
	row(v.n, v.name+": one tunnel up", up, "stock `_updown`", stockUp, "")
	return nil
}

// stockTimes are those of the stock script for one tunnel with all others up.
func (v variant) stockTimes() (up, down time.Duration, err error) {
	if err := v.linkPrograms(); err != nil {
		return 0, 0, err
	}
	if err := v.clearAll(); err != nil {
		return 0, 0, err
	}
	if err := v.stockRules(v.n - 1); err != nil {
		return 0, 0, err
	}
	var ups, downs []time.Duration
	for range v.rounds {
		t, err := timed(func() error { return v.call("up-client", v.n-1) })
		if err != nil {
			return 0, 0, err
		}
		ups = append(ups, t)
		if t, err = timed(func() error { return v.call("down-client", v.n-1) }); err != nil {
			return 0, 0, err
		}
		downs = append(downs, t)
	}
	return middle(ups), middle(downs), v.clearAll()
}

// callStock has the stock script called for each of some tunnels, returns how long it
// took, and removes its rules.
func (v variant) callStock() (time.Duration, error) {
	took, err := timed(func() error {
		for i := range v.storm {
			if err := v.call("up-client", i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return took, v.clearAll()
}

// stock has the stock script called for each of some tunnels, and applies as
// many at once.
func (v variant) stock(ctx context.Context) error {
	took, err := v.callStock()
	if err != nil {
		return err
	}
	none := map[xfrm.Family]live.Tables{xfrm.IPv4: {}, xfrm.IPv6: {}}
	commits := 0
	ours, err := median(min(v.rounds, 3), func(int) (time.Duration, error) {
		return timed(func() error {
			change, err := plan.Make(compile.Compile(input(snapshot(v.storm, false))).Rulesets, none)
			if err != nil {
				return err
			}
			commits = len(change.Steps)
			commands, err := v.steps(change)
			if err != nil {
				return err
			}
			return sh("unshare -n sh -c '" + commands + "'")
		})
	})
	if err != nil {
		return err
	}
	row(v.storm, fmt.Sprintf("%s: full apply from empty, %d commits", v.name, commits), ours, "stock `_updown` for each", took, "0.01")
	return nil
}

// command times a command of the program, with the files of a state directory.
func (v variant) command(ctx context.Context, word, state string) (time.Duration, error) {
	return timed(func() error {
		if out, err := exec.CommandContext(ctx, v.xfrmfw, append([]string{word}, v.args(state)...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %.500s", word, err, out)
		}
		return nil
	})
}

// program measures the program itself on the kernel's larval states: apply with
// nothing changed, status, and the daemon.
func (v variant) program(ctx context.Context) error {
	if _, err := v.command(ctx, "apply", "state"); err != nil {
		return err
	}
	var statuses, saves []time.Duration
	for range min(v.rounds, 3) {
		t, err := timed(func() error { return sh(fmt.Sprintf("iptables-%s-save -c >/dev/null", v.name)) })
		if err != nil {
			return err
		}
		saves = append(saves, t)
		if t, err = v.command(ctx, "status", "state"); err != nil {
			return err
		}
		statuses = append(statuses, t)
	}
	row(v.n, v.name+": status", middle(statuses), "one `iptables-save -c`", middle(saves), "1.5")
	return v.daemon(ctx, v.args("state"))
}
