package plan

import (
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// standing is the live rules of one family. The wanted rules in our chains have a form
// that takes little memory.
type standing struct {
	tables     []standingTable
	unreadable []rules.Table
}

type standingTable struct {
	name   rules.Table
	chains []standingChain
	// settled is true if nothing of the table shares memory with the text that it was
	// read from.
	settled bool
}

// standingChain has its rules in rules, or in compact.
type standingChain struct {
	live.Chain
	compact *compactChain
}

// compactChain stands for live rules that have the IDs of wanted ones. Their text can be
// made again from the wanted ones.
type compactChain struct {
	*knownChain
	// packets and bytes are the rules' counters, nil where all are 0.
	packets, bytes []uint64
}

// standingOf returns the live rules of a family as they were read.
func standingOf(save live.Tables) standing {
	s := standing{unreadable: save.Unreadable, tables: make([]standingTable, len(save.Tables))}
	for i, t := range save.Tables {
		chains := make([]standingChain, len(t.Chains))
		for j, c := range t.Chains {
			chains[j].Chain = c
		}
		s.tables[i] = standingTable{name: t.Name, chains: chains}
	}
	return s
}

// table returns the table of that name, empty if there is none.
func (s standing) table(name rules.Table) standingTable {
	for _, t := range s.tables {
		if t.name == name {
			return t
		}
	}
	return standingTable{name: name}
}

// save returns all rules as text. Those of compact chains are as they were sent, not as
// iptables-save prints them.
func (s standing) save(family xfrm.Family) live.Tables {
	save := live.Tables{Unreadable: s.unreadable, Tables: make([]live.Table, len(s.tables))}
	for i, t := range s.tables {
		chains := make([]live.Chain, len(t.chains))
		for j := range t.chains {
			chains[j] = t.chains[j].saved(family, t.name)
		}
		save.Tables[i] = live.Table{Name: t.name, Chains: chains}
	}
	return save
}

// others returns the chains that are not ours.
func (s standing) others() live.Tables {
	save := live.Tables{Unreadable: s.unreadable, Tables: make([]live.Table, len(s.tables))}
	for i, t := range s.tables {
		save.Tables[i].Name = t.name
		for j := range t.chains {
			if c := &t.chains[j]; !c.Ours() {
				save.Tables[i].Chains = append(save.Tables[i].Chains, c.Chain)
			}
		}
	}
	return save
}

// tunnels adds the IDs of the tunnels that rules of ours name.
func (s standing) tunnels(found map[string]bool) {
	for _, t := range s.tables {
		for i := range t.chains {
			c := &t.chains[i]
			for _, r := range c.Rules {
				if r.Tunnel != "" {
					found[r.Tunnel] = true
				}
			}
			if c.compact == nil {
				continue
			}
			for _, r := range c.compact.rules.All() {
				if r.Tunnel != "" {
					found[r.Tunnel] = true
				}
			}
		}
	}
}

// compacted returns the rules in the form that takes little memory. A family of which all
// tables are settled is returned as it is.
func (s standing) compacted(family xfrm.Family, t *Tracker) standing {
	if !slices.ContainsFunc(s.tables, func(t standingTable) bool { return !t.settled }) {
		return s
	}
	s.tables = slices.Clone(s.tables)
	for i := range s.tables {
		table := &s.tables[i]
		if table.settled {
			continue
		}
		table.settled, table.name = true, rules.Table(strings.Clone(string(table.name)))
		table.chains = slices.Clone(table.chains)
		for j := range table.chains {
			c := &table.chains[j]
			*c = c.compacted(t.wanted(chainAt{family, table.name, c.Name}))
		}
	}
	return s
}

// compacted returns the chain with the wanted one in place of its rules if they have the
// same IDs, and else with rules that keep nothing but their own text.
func (c standingChain) compacted(wanted *knownChain) standingChain {
	if c.compact != nil {
		return c
	}
	c.Name, c.Policy = strings.Clone(c.Name), strings.Clone(c.Policy)
	if wanted != nil && wanted.same(c.Rules) {
		c.compact = &compactChain{knownChain: wanted}
		for i, r := range c.Rules {
			c.compact.count(i, r.Packets, r.Bytes)
		}
		c.Rules = nil
		return c
	}
	c.Rules = slices.Clone(c.Rules)
	for i := range c.Rules {
		r := &c.Rules[i]
		*r = live.Rule{Raw: strings.Clone(r.Raw), Packets: r.Packets, Bytes: r.Bytes}
		r.ReadWords()
	}
	return c
}

// count sets the counters of a rule.
func (c *compactChain) count(i int, packets, bytes uint64) {
	if packets|bytes == 0 {
		return
	}
	if c.packets == nil {
		c.packets, c.bytes = make([]uint64, c.rules.Len()), make([]uint64, c.rules.Len())
	}
	c.packets[i], c.bytes[i] = packets, bytes
}

// saved returns the chain with its rules.
func (c *standingChain) saved(family xfrm.Family, table rules.Table) live.Chain {
	if c.compact == nil {
		return c.Chain
	}
	w := wantedChain{name: c.Name, known: c.compact.knownChain, family: family, table: table}
	w.render()
	saved := c.Chain
	saved.Rules = make([]live.Rule, len(w.lines))
	for i, l := range w.lines {
		r := &saved.Rules[i]
		r.Raw = l.text
		r.ReadWords()
		if c.compact.packets != nil {
			r.Packets, r.Bytes = c.compact.packets[i], c.compact.bytes[i]
		}
	}
	return saved
}
