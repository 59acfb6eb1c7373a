package firewall

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// After returns what stands once the steps of a change that Plan made were run
// on it, so that who applied it need not read it back. The receiver is not
// changed; what the steps don't touch is shared with it. The rules that they
// write are as they were sent, which is not always as iptables-save prints them.
func (c Change) After(have map[Family]Save) (map[Family]Save, error) {
	after := make(map[Family]Save, len(have))
	for family, save := range have {
		after[family] = save
	}
	for _, step := range c.Steps {
		save, err := after[step.Family].after(step, nil)
		if err != nil {
			return nil, fmt.Errorf("follow a change of %s (%s): %w", step.Table, step.Family, err)
		}
		after[step.Family] = save
	}
	return after, nil
}

// after returns the save after one step. With a holder, what the step writes is
// held where it is wanted.
func (s Save) after(step Step, h *holder) (Save, error) {
	m := model{table: step.Table, holder: h, index: make(map[string]int)}
	for _, c := range s.Table(step.Table).Chains {
		m.index[c.Name] = len(m.chains)
		m.chains = append(m.chains, c)
	}
	for line := range strings.Lines(step.Text) {
		if err := m.line(strings.TrimSuffix(line, "\n")); err != nil {
			return Save{}, err
		}
	}
	table := SavedTable{Name: step.Table, Chains: slices.DeleteFunc(m.chains, func(c SavedChain) bool { return c.Name == "" })}
	tables := slices.Clone(s.Tables)
	if i := slices.IndexFunc(tables, func(t SavedTable) bool { return t.Name == step.Table }); i >= 0 {
		tables[i] = table
	} else {
		tables = append(tables, table)
	}
	return Save{Tables: tables, Unreadable: s.Unreadable}, nil
}

// model is one table while a step is run on it. A chain that was deleted has no
// name.
type model struct {
	table  Table
	holder *holder
	chains []SavedChain
	index  map[string]int
	// last is the chain that the last rule was of; if it is held, ids are those of
	// its rules, and written is how many of these have been met.
	last, ids string
	written   int
}

// line runs one line of a step.
func (m *model) line(line string) error {
	if line == "COMMIT" || line[:1] == "*" {
		return nil
	}
	if name, ok := strings.CutPrefix(line, ":"); ok {
		name, _, _ = strings.Cut(name, " ")
		c := m.chain(name, "-")
		c.Rules = nil
		c.held, _ = m.holder.wanted(m.table, name)
		return nil
	}
	var r SavedRule
	if line[0] == '[' {
		var ok bool
		if r.Packets, r.Bytes, line, ok = cutCounters(line); !ok {
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
		if m.ids = ""; m.holder != nil {
			if _, known := m.holder.wanted(m.table, name); known != nil {
				m.ids = known.ids
			}
		}
	}
	if c := m.chain(name, "ACCEPT"); c.held != nil {
		at := m.written * idLen
		if command != "-A" || at >= len(m.ids) || newLine(rest).key != m.ids[at:at+idLen] {
			return fmt.Errorf("%.40q is none of the chain's rules", line)
		}
		c.held.count(m.written, r.Packets, r.Bytes)
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
	if r.Raw = rest; !r.readWords() {
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
		i := slices.IndexFunc(c.Rules, func(have SavedRule) bool { return have.Raw == rest })
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
func (m *model) chain(name, policy string) *SavedChain {
	i, ok := m.index[name]
	if !ok {
		i = len(m.chains)
		name = strings.Clone(name) // who keeps it need not keep the step
		m.index[name] = i
		m.chains = append(m.chains, SavedChain{Name: name, Policy: policy})
	}
	return &m.chains[i]
}
