package operator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/xfrmfw/xfrmfw/test/lab"
)

// counts are numbers of packets by the ID of a rule, a kernel counter, or "the-rest".
type counts map[string]int

func (want counts) differences(before, now counts, rules map[string]string) []string {
	var diff []string
	for key, n := range now {
		if got := n - before[key]; got != want[key] {
			diff = append(diff, fmt.Sprintf("%s: %d, explained %d  %s", key, got, want[key], rules[key]))
		}
	}
	for key := range want {
		if _, ok := now[key]; !ok {
			diff = append(diff, key+": explained, but there is no such rule")
		}
	}
	slices.Sort(diff)
	return diff
}

// read returns all counters of sun.
func (c *comparison) read(t *testing.T) counts {
	t.Helper()
	now := make(counts)
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		for line := range strings.Lines(c.Sun.Run(t, program, "-c")) {
			counters, rule, ok := strings.Cut(strings.TrimSpace(line), "] -A ")
			_, comment, has := strings.Cut(rule, "--comment ")
			if !ok || !has {
				continue
			}
			comment, _, _ = strings.Cut(comment, " ")
			comment = strings.Trim(comment, `"`)
			packets, err := strconv.Atoi(strings.TrimPrefix(strings.SplitN(counters, ":", 2)[0], "["))
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			id, rest, ours := strings.Cut(strings.TrimPrefix(comment, "xfrmfw:"), "/")
			switch {
			case comment == "the-rest":
				now[comment] += packets
			case ours && !strings.HasPrefix(rest, "jump"):
				now[id] += packets
				c.rules[id] = program + ": " + rule
			}
		}
	}
	for line := range strings.Lines(c.Sun.Run(t, "cat", "/proc/net/xfrm_stat")) {
		if w := strings.Fields(line); len(w) == 2 && slices.Contains(policyCounters, w[0]) {
			now[w[0]], _ = strconv.Atoi(w[1])
		}
	}
	return now
}

// policyCounters are those of the kernel's own decisions by policy.
var policyCounters = []string{"XfrmInNoPols", "XfrmInTmplMismatch", "XfrmInPolBlock", "XfrmOutPolBlock", "XfrmOutNoStates"}

// expect adds the expected counts for a packet.
func (c *comparison) expect(s sample, want counts) {
	e := c.explained[s.ask]
	questions := []string{s.outer, s.ask}
	if s.esp != "" && e.passes() && e.encrypted() {
		questions = append(questions, s.esp)
	}
	for _, question := range questions {
		if question == "" {
			continue
		}
		e := c.explained[question]
		// Equal rules of one chain share an ID, and so their counters.
		for _, step := range e.Steps {
			if !step.Unreached {
				want[step.ID]++
			}
		}
		if e.Verdict.By == "kernel" {
			want[e.Verdict.Counter]++
		}
		if e.Verdict.Action == "return" && e.Packet.Way != "output" {
			want["the-rest"]++
		}
	}
	number := e.Verdict.Case
	if number == "" {
		number = e.Verdict.Name
	}
	if c.by == nil {
		c.by = make(map[string]int)
	}
	c.by[number]++
}

// arrivals compares the packets that bob saw, and those that sun put on the wire.
func (c *comparison) arrivals(t *testing.T, name string, samples []sample, bob, wire *lab.Capture) {
	t.Helper()
	seen := func(capture *lab.Capture) map[string]int {
		found := make(map[string]int)
		for _, frame := range capture.Frames(t) {
			if !frame.Outgoing {
				found[keyOf(frame)]++
			}
		}
		return found
	}
	esp := 0
	atBob, inClear := seen(bob), seen(wire)
	for _, s := range samples {
		e := c.explained[s.ask]
		leaves := e.passes() && e.Packet.Way != "input"
		wantBob := leaves && e.Packet.Out == "lan0"
		wantClear := leaves && e.Packet.Out == "wan0" && !e.encrypted()
		if leaves && e.Packet.Out == "wan0" && e.encrypted() {
			esp++
		}
		if got := atBob[s.key] > 0; got != wantBob {
			t.Errorf("%s: %s: at bob %v, explained %v (%+v)", name, s.ask, got, wantBob, e.Verdict)
			c.differences++
		}
		if got := inClear[s.key] > 0; got != wantClear {
			t.Errorf("%s: %s: on the wire in clear %v, explained %v (%+v)", name, s.ask, got, wantClear, e.Verdict)
			c.differences++
		}
	}
	got := wire.Count(t, func(f lab.Frame) bool {
		return !f.Outgoing && lab.IsESP(f) && f.Src == c.Sun.Outer(lab.FamilyOf(f.Src))
	})
	if got != esp {
		t.Errorf("%s: %d packets left in ESP, explained %d", name, got, esp)
		c.differences++
	}
}

func (c *comparison) cases() string {
	var texts []string
	for number, n := range c.by {
		texts = append(texts, fmt.Sprintf("%s: %d", number, n))
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}
