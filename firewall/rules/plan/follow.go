package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// after returns the live rules once a step was run, and shares with s all that the step
// doesn't touch. Chains that the step writes as they were wanted are compact.
func (s standing) after(step Step, t *Tracker) (standing, error) {
	m := tableState{tracker: t, family: step.Family, table: step.Table, index: make(map[string]int)}
	before := s.table(step.Table)
	for _, c := range before.chains {
		m.index[c.Name] = len(m.chains)
		m.chains = append(m.chains, c)
	}
	for line := range strings.Lines(step.Text) {
		if err := m.line(strings.TrimSuffix(line, "\n")); err != nil {
			return standing{}, err
		}
	}
	table := standingTable{name: step.Table, chains: slices.DeleteFunc(m.chains, func(c standingChain) bool { return c.Name == "" })}
	s.tables = slices.Clone(s.tables)
	if i := slices.IndexFunc(s.tables, func(t standingTable) bool { return t.name == step.Table }); i >= 0 {
		s.tables[i] = table
	} else {
		s.tables = append(s.tables, table)
	}
	return s, nil
}

// tableState is one table while a step is run on it. A chain that was deleted has no
// name.
type tableState struct {
	tracker *Tracker
	family  xfrm.Family
	table   rules.Table
	chains  []standingChain
	index   map[string]int
	// last is the chain of the last rule, and written counts its rules so far.
	last    string
	written int
}

// line runs one line of a step.
func (m *tableState) line(line string) error {
	if line == "COMMIT" || line[:1] == "*" {
		return nil
	}
	if name, ok := strings.CutPrefix(line, ":"); ok {
		name, _, _ = strings.Cut(name, " ")
		c := m.chain(name, "-")
		c.Rules, c.compact = nil, nil
		if wanted := m.tracker.wanted(chainAt{m.family, m.table, name}); wanted != nil {
			c.compact = &compactChain{knownChain: wanted}
		}
		return nil
	}
	var r live.Rule
	if line[0] == '[' {
		var ok bool
		if r.Packets, r.Bytes, line, ok = live.CutCounters(line); !ok {
			return fmt.Errorf("%.40q has no counters", line)
		}
		line = strings.TrimPrefix(line, " ")
	}
	command, rest, _ := strings.Cut(line, " ")
	name, rest, _ := strings.Cut(rest, " ")
	if command == "-X" {
		m.chain(name, "-").Name = ""
		delete(m.index, name)
		return nil
	}
	if m.last != name {
		m.last, m.written = name, 0
	}
	if c := m.chain(name, "ACCEPT"); c.compact != nil {
		ids, at := c.compact.ids, m.written*rules.IDLen
		if command != "-A" || at >= len(ids) || newLine(rest).key != ids[at:at+rules.IDLen] {
			return fmt.Errorf("%.40q is none of the chain's rules", line)
		}
		c.compact.count(m.written, r.Packets, r.Bytes)
		m.written++
		return nil
	}
	place := 0
	if command == "-I" {
		word, text, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return fmt.Errorf("%.40q has no place", line)
		}
		place, rest = n-1, text
	}
	if r.Raw = rest; !r.ReadWords() {
		return fmt.Errorf("%.40q is no rule", line)
	}
	// A builtin chain is made with its table.
	c := m.chain(name, "ACCEPT")
	switch command {
	case "-A":
		c.Rules = append(c.Rules, r)
	case "-I":
		if place > len(c.Rules) {
			return fmt.Errorf("%.40q: there are only %d rules", line, len(c.Rules))
		}
		c.Rules = slices.Insert(slices.Clone(c.Rules), place, r)
	case "-D":
		i := slices.IndexFunc(c.Rules, func(have live.Rule) bool { return have.Raw == rest })
		if i < 0 {
			return fmt.Errorf("%.40q: there is no such rule", line)
		}
		c.Rules = slices.Delete(slices.Clone(c.Rules), i, i+1)
	default:
		return fmt.Errorf("%.40q is no command", line)
	}
	return nil
}

// chain returns the chain of that name, a new one if there is none.
func (m *tableState) chain(name, policy string) *standingChain {
	i, ok := m.index[name]
	if !ok {
		i = len(m.chains)
		name = strings.Clone(name) // a name that outlives the step must not hold its text
		m.index[name] = i
		m.chains = append(m.chains, standingChain{Chain: live.Chain{Name: name, Policy: policy}})
	}
	return &m.chains[i]
}
