package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/xfrmfw/xfrmfw/firewall/nftables"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// engine measures the nftables engine beside the iptables engine with iptables-nft.
func engine(ctx context.Context, s settings, only string) error {
	v := variant{settings: s, name: "nft", engine: "nftables"}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"one", v.oneByElements}, {"empty", v.loadTable}, {"stock", v.stockBesideTable}, {"held", v.held},
		{"daemon", func(ctx context.Context) error { return v.daemon(ctx, v.args("state")) }}, {"crowd", v.crowd},
	} {
		if only != "" && only != part.name {
			continue
		}
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("nftables: %s: %w", part.name, err)
		}
	}
	return nil
}

// fineRow is row with a resolution of a microsecond.
func fineRow(n int, what string, took time.Duration, against string, floor time.Duration, reach string) {
	ms := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
	fmt.Printf("| nftables: %s | %d | %.3f | %s | %.3f | %.4f | %s |\n", what, n, ms(took), against, ms(floor), float64(took)/float64(floor), reach)
}

// oneByElements takes one tunnel of several numbers of tunnels down and up by one
// transaction, from the difference of the tables to the kernel's answer.
func (v variant) oneByElements(ctx context.Context) error {
	c, err := nftables.Open()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	var first, all [2]time.Duration
	for _, n := range append(v.sizes(), 5*v.n) {
		many, fewer := tableOf(snapshot(n, false)), tableOf(snapshot(n-1, false))
		generation, err := replace(c, many)
		if err != nil {
			return err
		}
		var took [2][]time.Duration
		changes := []sets.Change{sets.Diff(many, fewer), sets.Diff(fewer, many)}
		rules := sets.Table{Name: many.Name}
		for range 100 * v.rounds {
			for i, change := range changes {
				t, err := timed(func() (err error) {
					generation, err = c.Apply(nftables.State{Generation: generation}, change, rules)
					return err
				})
				if err != nil {
					return err
				}
				took[i] = append(took[i], t)
			}
		}
		for i, what := range []string{"down", "up"} {
			t := middle(took[i])
			if first[i] == 0 {
				first[i] = t
			}
			if n == v.n {
				all[i] = t
			}
			fineRow(n, "one tunnel "+what+", the kernel's part", t, "with the fewest tunnels", first[i], "2")
		}
	}
	if _, err := replace(c, sets.Table{}); err != nil {
		return err
	}
	up, down, err := variant{settings: v.settings, name: v.name}.oneTunnelOf(ctx, numberings()[0])
	if err != nil {
		return err
	}
	fineRow(v.n, "one tunnel down, the kernel's part", all[0], "iptables engine, snapshot to rules", down, "1/1,000")
	fineRow(v.n, "one tunnel up, the kernel's part", all[1], "iptables engine, snapshot to rules", up, "1/1,000")
	return v.clearAll()
}

// load reads the kernel, decides and loads the table for a snapshot where there is none,
// and returns the time.
func load(ctx context.Context, c *nftables.Conn, reader *kernel.Reader, s xfrm.Snapshot) (time.Duration, error) {
	if _, err := replace(c, sets.Table{}); err != nil {
		return 0, err
	}
	return timed(func() error {
		if _, err := reader.Read(ctx); err != nil {
			return err
		}
		_, err := replace(c, tableOf(s))
		return err
	})
}

// loadTable loads all tunnels where there is no table, beside one chain of iptables with
// one rule a tunnel.
func (v variant) loadTable(ctx context.Context) error {
	bare, err := v.bareChain()
	if err != nil {
		return err
	}
	c, err := nftables.Open()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	var reader kernel.Reader
	var full, floors []time.Duration
	up := snapshot(v.n, false)
	for range min(v.rounds, 3) {
		t, err := timed(func() error { return sh("unshare -n iptables-nft-restore --noflush <" + bare) })
		if err != nil {
			return err
		}
		floors = append(floors, t)
		if t, err = load(ctx, c, &reader, up); err != nil {
			return err
		}
		full = append(full, t)
	}
	if _, err := replace(c, sets.Table{}); err != nil {
		return err
	}
	row(v.n, "nftables: snapshot and full load from empty", middle(full), "bare restore, one rule a tunnel", middle(floors), "1")
	return nil
}

// stockBesideTable has the stock script called for each of some tunnels, and loads as
// many at once.
func (v variant) stockBesideTable(ctx context.Context) error {
	if err := v.linkPrograms(); err != nil {
		return err
	}
	script, err := v.callStock()
	if err != nil {
		return err
	}
	c, err := nftables.Open()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	up := snapshot(v.storm, false)
	ours, err := median(min(v.rounds, 3), func(int) (time.Duration, error) {
		if _, err := replace(c, sets.Table{}); err != nil {
			return 0, err
		}
		return timed(func() error { _, err := replace(c, tableOf(up)); return err })
	})
	if err != nil {
		return err
	}
	row(v.storm, "nftables: full load from empty", ours, "stock `_updown` for each", script, "0.01")
	_, err = replace(c, sets.Table{})
	return err
}

// held measures what stands: the kernel's memory, the tunnels' counters and status, beside
// the iptables engine.
func (v variant) held(ctx context.Context) error {
	rules := variant{settings: v.settings, name: v.name}
	var used [2]int
	var saves time.Duration
	for i, of := range []variant{rules, v} {
		before, err := kernelMemory()
		if err != nil {
			return err
		}
		if _, err := of.command(ctx, "apply", "held"); err != nil {
			return err
		}
		after, err := kernelMemory()
		if err != nil {
			return err
		}
		used[i] = after - before
		if i > 0 {
			continue
		}
		if saves, err = median(min(v.rounds, 3), func(int) (time.Duration, error) {
			return timed(func() error { return sh("iptables-nft-save -c >/dev/null") })
		}); err != nil {
			return err
		}
		if _, err := of.command(ctx, "clear", "held"); err != nil {
			return err
		}
	}
	fmt.Printf("| nftables: kernel memory, accepts in iptables with it | %d | %d KiB | iptables engine | %d KiB | %.3f | 1/10 |\n",
		v.n, used[1], used[0], float64(used[1])/float64(used[0]))
	c, err := nftables.Open()
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	s, err := c.Read(program.Name)
	if err != nil {
		return err
	}
	counters, err := median(v.rounds, func(int) (time.Duration, error) {
		return timed(func() error {
			for _, set := range s.Table.Sets {
				if !set.Counter {
					continue
				}
				if _, err := c.Elements(program.Name, set); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	row(v.n, "nftables: the tunnels' counters", counters, "one `iptables-save -c` of the iptables engine", saves, "1/10")
	status, err := median(min(v.rounds, 3), func(int) (time.Duration, error) {
		return v.command(ctx, "status", "held")
	})
	if err != nil {
		return err
	}
	row(v.n, "nftables: status", status, "one `iptables-save -c` of the iptables engine", saves, "1/3")
	_, err = v.command(ctx, "clear", "held")
	return err
}

// kernelMemory is the kernel's memory for objects, of all processors and in mapped pages,
// in KiB, after what is put off has had time.
func kernelMemory() (kib int, err error) {
	time.Sleep(2 * time.Second)
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var n int
		for _, name := range []string{"Slab:", "Percpu:", "VmallocUsed:"} {
			if _, err := fmt.Sscanf(line, name+" %d kB", &n); err == nil {
				kib += n
			}
		}
	}
	return kib, nil
}

// args are the options of the program, with folders of a name.
func (v variant) args(state string) []string {
	args := []string{"--variant", v.name, "--state-dir", filepath.Join(v.dir, state), "--run-dir", filepath.Join(v.dir, "run")}
	if v.engine != "" {
		args = append(args, "--engine", v.engine)
	}
	return args
}

// label names the variant, or the engine beside it.
func (v variant) label() string {
	if v.engine != "" {
		return v.engine
	}
	return v.name
}
