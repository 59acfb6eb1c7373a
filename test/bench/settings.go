package main

import (
	"fmt"
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
