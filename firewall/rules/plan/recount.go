package plan

import (
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
)

// Counter is the packets and bytes that a rule has counted.
type Counter struct{ Packets, Bytes uint64 }

// Rewrites returns the chains of ours that the step empties, to write all that is
// to stand in them. It names those too that are only just made.
func (s Step) Rewrites() []string {
	var chains []string
	for line := range strings.Lines(s.Text) {
		if name, ok := strings.CutPrefix(line, ":"); ok {
			name, _, _ = strings.Cut(name, " ")
			chains = append(chains, name)
		}
	}
	return chains
}

// Recount returns the step with the counters that the rules of the chains it rewrites have
// by now, by their IDs: a step was planned from counters that may be old.
// Rules without an entry in now keep the counters of the step.
func (s Step) Recount(now map[string]Counter) Step {
	counted := s.Counters
	for _, c := range now {
		counted = counted || c != Counter{}
	}
	if !counted || len(now) == 0 {
		return s
	}
	text := make([]byte, 0, len(s.Text)+16*strings.Count(s.Text, "\n"))
	for line := range strings.Lines(s.Text) {
		text = append(recounted(text, line, now), '\n')
	}
	s.Text, s.Counters = string(text), true
	return s
}

// recounted appends a line of a step, with counters if it adds a rule.
func recounted(text []byte, line string, now map[string]Counter) []byte {
	rule := strings.TrimSuffix(line, "\n")
	var c Counter
	if strings.HasPrefix(rule, "[") {
		packets, octets, rest, ok := live.CutCounters(rule)
		if ok {
			c, rule = Counter{packets, octets}, strings.TrimPrefix(rest, " ")
		}
	}
	if !strings.HasPrefix(rule, "-A ") {
		return append(text, strings.TrimSuffix(line, "\n")...)
	}
	if i := strings.LastIndex(rule, " "+rules.CommentPrefix); i >= 0 {
		if at := i + 1 + len(rules.CommentPrefix); len(rule) >= at+rules.IDLen {
			if fresh, ok := now[rule[at:at+rules.IDLen]]; ok {
				c = fresh
			}
		}
	}
	text = append(live.AppendCounters(text, c.Packets, c.Bytes), ' ')
	return append(text, rule...)
}
