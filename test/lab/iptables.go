package lab

import (
	"strconv"
	"strings"
	"testing"
)

// program is iptables or ip6tables, with an ending such as -save.
func (f Family) program(ending string) string {
	if f == IPv4 {
		return "iptables" + ending
	}
	return "ip6tables" + ending
}

// Iptables runs iptables or ip6tables on the host and returns its stdout.
func (h *Host) Iptables(t testing.TB, f Family, args ...string) string {
	t.Helper()
	return h.Run(t, f.program(""), append([]string{"-w", "10"}, args...)...)
}

// Rules adds rules of one table, in the format of iptables-restore, in one commit. The
// table keeps its other rules.
func (h *Host) Rules(t testing.TB, f Family, table string, lines ...string) {
	t.Helper()
	input := "*" + table + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n"
	h.RunInput(t, input, f.program("-restore"), "-w", "10", "--noflush")
}

// Save returns all rules of a family without their counters. The lines that change by themselves, comments with times
// and the counters of chains, are left out or zero, so that two saves of the same rules are equal.
func (h *Host) Save(t testing.TB, f Family) string {
	t.Helper()
	var b strings.Builder
	for _, line := range strings.Split(h.Run(t, f.program("-save")), "\n") {
		switch {
		case line == "", strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, ":"):
			chain, _, _ := strings.Cut(line, " [")
			b.WriteString(chain + " [0:0]\n")
		default:
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// Counter is how many packets the rules of a table have counted that contain all the words, such as a comment. A test
// that asks for a rule which is not there fails.
func (h *Host) Counter(t testing.TB, f Family, table string, words ...string) int {
	t.Helper()
	total, found := 0, false
	saved := h.Run(t, f.program("-save"), "-c", "-t", table)
	for _, line := range strings.Split(saved, "\n") {
		counters, rule, isRule := strings.Cut(line, "] -A ")
		if !isRule || !containsAll(" -A "+rule+" ", words) {
			continue
		}
		packets, _, _ := strings.Cut(strings.TrimPrefix(counters, "["), ":")
		count, err := strconv.Atoi(packets)
		if err != nil {
			t.Fatalf("%s: counters of %q: %v", h.Name, line, err)
		}
		total, found = total+count, true
	}
	if !found {
		t.Fatalf("%s: no rule with %q in %s (%v)\n%s", h.Name, words, table, f, indent("rules", saved))
	}
	return total
}

func containsAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}
