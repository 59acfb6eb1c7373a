// Command bench measures the cost of many tunnels, each figure beside one to compare it
// with, in one run. scripts/bench starts it, once for each part, in network namespaces of
// their own. It changes nothing outside of them.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// settings are those of one run.
type settings struct {
	n, rounds, storm int
	// real has states with keys in place of larval ones, a pair for each tunnel,
	// which needs a kernel with ESP; it is the virtual machine's, where everything
	// takes longer.
	real           bool
	xfrmfw, updown string
	dir            string
}

func main() {
	var s settings
	flag.IntVar(&s.n, "n", 10000, "tunnels")
	flag.IntVar(&s.rounds, "rounds", 5, "times that each figure is taken, of which the median is shown")
	flag.IntVar(&s.storm, "updown-calls", 1000, "calls of the stock script")
	flag.StringVar(&s.xfrmfw, "xfrmfw", "", "the program")
	flag.StringVar(&s.updown, "updown", "", "strongSwan's _updown script")
	flag.BoolVar(&s.real, "real", false, "tunnels have pairs of states with keys, as in a virtual machine")
	flag.Parse()
	if err := run(context.Background(), s, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, part string) error {
	var err error
	if s.dir, err = os.MkdirTemp("", "xfrmfw-bench."); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(s.dir) }()
	if name, variant, ok := strings.Cut(part, ":"); ok && name == "packets" {
		return packets(s, variant)
	}
	following, engineOf, _ := strings.Cut(part, ":")
	if following == "follow" { // with tunnels that come by and by, and none besides
		s.n = 0
	}
	if err := prepare(s); err != nil {
		return err
	}
	switch {
	case following == "follow":
		return follow(ctx, s, engineOf)
	case part == "snapshot":
		return snapshots(ctx, s)
	}
	if engine, ok := strings.CutPrefix(part, "guards:"); ok {
		return guards(ctx, s, engine)
	}
	if name, only, _ := strings.Cut(part, ":"); name == "engine" {
		return engine(ctx, s, only)
	}
	if name, only, _ := strings.Cut(part, ":"); name == "nft" || name == "legacy" {
		v := variant{settings: s, name: name}
		return v.measure(ctx, only)
	}
	return fmt.Errorf("no part %q: use snapshot, nft, legacy, engine, follow, guards or packets", part)
}

// prepare makes the gateway in this process's own network namespace.
func prepare(s settings) error {
	if links, err := net.Interfaces(); err != nil || len(links) > 1 {
		return fmt.Errorf("this is no network namespace of its own: use scripts/bench")
	}
	if err := os.WriteFile("/proc/sys/net/core/xfrm_acq_expires", []byte("100000"), 0o644); err != nil {
		return err
	}
	script := []string{
		"link set lo up", "link add wan0 type veth peer name wan1", "link add lan0 type veth peer name lan1",
		"link set wan0 up", "link set wan1 up", "link set lan0 up", "link set lan1 up",
		"addr add " + wanAddr.String() + " dev wan0", "addr add " + lanAddr.String() + " dev lan0", "route add default via " + router.String(),
	}
	for i := range s.n {
		script = append(script, addPolicies(i)...)
		if s.real {
			script = append(script, addStates(i)...)
			continue
		}
		script = append(script, fmt.Sprintf("xfrm state allocspi src %s dst %s proto esp reqid %d mode tunnel min %#x max %#x",
			peer(i), wanAddr.Addr(), reqid(i), 0x1000+i, 0x1000+i))
	}
	return batch(s, script)
}

func addPolicies(i int) []string {
	var lines []string
	for _, p := range policies(i, false) {
		t := p.Templates[0]
		lines = append(lines, fmt.Sprintf("xfrm policy add src %s dst %s dir %s priority %d tmpl src %s dst %s proto esp reqid %d mode tunnel",
			p.Selector.Src, p.Selector.Dst, p.Dir, p.Priority, t.Src, t.Dst, t.Reqid))
	}
	return lines
}

// objects is how many states and policies the kernel then has.
func (s settings) objects() int {
	if s.real {
		return 5 * s.n
	}
	return 4 * s.n
}

// addStates are the lines for the first pair of states of tunnel i.
func addStates(i int) []string { return addGeneration(i, 0) }

// addGeneration are the lines for a pair of states of tunnel i.
func addGeneration(i, generation int) []string {
	var lines []string
	for _, s := range states(i, generation) {
		lines = append(lines, fmt.Sprintf("xfrm state add src %s dst %s proto esp spi %#x reqid %d mode tunnel aead rfc4106(gcm(aes)) 0x%040x 128",
			s.Src, s.Dst, s.SPI, s.Reqid, s.SPI))
	}
	return lines
}

// batch runs lines of ip.
func batch(s settings, lines []string) error {
	file := filepath.Join(s.dir, "batch")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return sh("ip -batch " + file + " >/dev/null")
}

// sh runs a line of shell.
func sh(line string) error {
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %.300s", line, err, out)
	}
	return nil
}

// median takes a time so many times.
func median(rounds int, take func(round int) (time.Duration, error)) (time.Duration, error) {
	var times []time.Duration
	for round := range rounds {
		t, err := take(round)
		if err != nil {
			return 0, err
		}
		times = append(times, t)
	}
	return middle(times), nil
}

func middle(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}

// timed is how long f takes.
func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

// row prints a line of the table. It has the name and time of a case and of its floor,
// their ratio, and the ratio to reach.
func row(n int, what string, took time.Duration, against string, floor time.Duration, reach string) {
	fmt.Printf("| %s | %d | %s | %s | %s | %.2f | %s |\n", what, n, ms(took), against, ms(floor), float64(took)/float64(floor), reach)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }
