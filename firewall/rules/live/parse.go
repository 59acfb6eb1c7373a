package live

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// Tables is the output of iptables-save for one family. Its strings are slices of the
// printed text.
type Tables struct {
	Tables []Table
	// Unreadable are tables that hold nftables rules which the nft variant
	// cannot express: it prints nothing of them, our chains included, though
	// iptables-restore still writes to them.
	Unreadable []rules.Table
}

// Table is a live table.
type Table struct {
	Name   rules.Table
	Chains []Chain
}

// Chain is a live chain, ours or not.
type Chain struct {
	Name string
	// Policy is ACCEPT or DROP for a builtin chain and "-" for any other.
	Policy         string
	Packets, Bytes uint64
	Rules          []Rule
}

// Rule is a live rule.
type Rule struct {
	// Raw is the rule as printed, without counters and "-A CHAIN".
	Raw string
	// Target is that of -j or -g, empty if there is none.
	Target string
	// ID, Purpose and Tunnel are those of our comment, empty on other rules.
	ID             string
	Purpose        rules.Purpose
	Tunnel         string
	Packets, Bytes uint64
}

// Jump reports whether the rule, found in a chain that is not ours, is one of
// our jumps.
func (r Rule) Jump() bool {
	return r.ID != "" && r.Purpose == rules.PurposeJump && rules.Ours(r.Target) && !strings.Contains(r.Raw, "\n")
}

// Ours reports whether the chain belongs to xfrmfw.
func (c Chain) Ours() bool { return rules.Ours(c.Name) }

// Has reports whether all rules of a table were printed.
func (s Tables) Has(name rules.Table) bool {
	return slices.ContainsFunc(s.Tables, func(t Table) bool { return t.Name == name }) && !slices.Contains(s.Unreadable, name)
}

// Table returns the table of that name, empty if there is none.
func (s Tables) Table(name rules.Table) Table {
	for _, t := range s.Tables {
		if t.Name == name {
			return t
		}
	}
	return Table{Name: name}
}

// Chain returns the chain of that name.
func (t Table) Chain(name string) (Chain, bool) {
	for _, c := range t.Chains {
		if c.Name == name {
			return c, true
		}
	}
	return Chain{}, false
}

// Parse reads the output of "iptables-save -c", of either variant. Text that ends within
// a table is an error, because half a rule set read would pass for one that lost its
// other half.
func Parse(text []byte) (Tables, error) {
	p := parser{text: string(text), last: true}
	return p.end()
}

// parser is the state between lines. The rules of a chain stand together in real output,
// so they are collected in runs. A run is a part of rules, which many chains share.
type parser struct {
	// text is the rest that is not parsed yet. Unless last is set, more of it follows.
	text string
	last bool
	// short is true if the present line goes on in text that is not read yet.
	short bool
	// lines counts those that were parsed.
	lines  int
	save   Tables
	table  int
	open   bool
	chains []map[string]int
	rules  []Rule
	// run is where the current run begins in rules; it is of chain.
	run   int
	chain int
	name  string
}

// parse takes all whole lines of the text.
func (p *parser) parse() error {
	for p.text != "" {
		before := p.text
		line, rest, whole := strings.Cut(p.text, "\n")
		if !whole && !p.last {
			return nil
		}
		p.text = rest
		err := p.line(line)
		if p.short {
			p.text, p.short = before, false
			return nil
		}
		if p.lines++; err != nil {
			return fmt.Errorf("parse iptables-save: line %d: %w", p.lines, err)
		}
	}
	return nil
}

// end takes the rest of the text.
func (p *parser) end() (Tables, error) {
	p.last = true
	if err := p.parse(); err != nil {
		return Tables{}, err
	}
	if p.open {
		return Tables{}, fmt.Errorf("parse iptables-save: table %s ends without COMMIT", p.save.Tables[p.table].Name)
	}
	return p.save, nil
}

func (p *parser) line(line string) error {
	switch {
	case line == "":
	case line[0] == '#':
		p.remark(line)
	case line[0] == '*':
		if p.open {
			return fmt.Errorf("table %s begins before COMMIT", line[1:])
		}
		p.begin(rules.Table(line[1:]))
	case !p.open:
		return fmt.Errorf("%.40q outside of a table", line)
	case line == "COMMIT":
		p.flush()
		p.open = false
	case line[0] == ':':
		return p.declare(line[1:])
	case line[0] == '[', strings.HasPrefix(line, "-A "):
		return p.rule(line)
	default:
		return fmt.Errorf("%.40q is no rule", line)
	}
	return nil
}

// remark keeps the names of tables that iptables-nft-save remarks on and does not print.
func (p *parser) remark(line string) {
	rest, ok := strings.CutPrefix(line, "# Table `")
	if !ok {
		return
	}
	if name, ok := strings.CutSuffix(rest, "' is incompatible, use 'nft' tool."); ok {
		p.save.Unreadable = append(p.save.Unreadable, rules.Table(name))
	}
}

func (p *parser) begin(name rules.Table) {
	p.open, p.name, p.run = true, "", len(p.rules)
	for i, t := range p.save.Tables {
		if t.Name == name {
			p.table = i
			return
		}
	}
	p.table = len(p.save.Tables)
	p.save.Tables = append(p.save.Tables, Table{Name: name})
	p.chains = append(p.chains, make(map[string]int))
}

// declare reads "NAME POLICY [PACKETS:BYTES]".
func (p *parser) declare(line string) error {
	name, rest, _ := strings.Cut(line, " ")
	policy, counters, _ := strings.Cut(rest, " ")
	if name == "" || policy == "" {
		return fmt.Errorf("%.40q is no chain", line)
	}
	if _, ok := p.chains[p.table][name]; ok {
		return nil
	}
	c := Chain{Name: name, Policy: policy}
	if counters != "" {
		var rest string
		var ok bool
		if c.Packets, c.Bytes, rest, ok = CutCounters(counters); !ok || rest != "" {
			return fmt.Errorf("chain %.40q has the counters %.40q", name, counters)
		}
	}
	t := &p.save.Tables[p.table]
	p.chains[p.table][name] = len(t.Chains)
	t.Chains = append(t.Chains, c)
	return nil
}

// rule reads "[PACKETS:BYTES] -A CHAIN RULE".
func (p *parser) rule(line string) error {
	var r Rule
	rest := line
	if line[0] == '[' {
		var ok bool
		if r.Packets, r.Bytes, rest, ok = CutCounters(line); !ok {
			return fmt.Errorf("%.40q has no counters", line)
		}
		rest = strings.TrimPrefix(rest, " ")
	}
	rest, ok := strings.CutPrefix(rest, "-A ")
	if !ok {
		return fmt.Errorf("%.40q is no rule", line)
	}
	name, rest, _ := strings.Cut(rest, " ")
	if name != p.name || name == "" {
		i, ok := p.chains[p.table][name]
		if !ok {
			return fmt.Errorf("a rule of chain %.40q, which is not declared", name)
		}
		p.flush()
		p.name, p.chain = name, i
	}
	r.Raw = rest
	// A comment can hold newlines, and is then printed over more lines.
	for more := 8; !r.ReadWords(); more-- {
		if r.Raw, ok = p.continuation(r.Raw); !ok || more == 0 {
			return fmt.Errorf("%.40q has a quote that does not end", rest)
		}
	}
	p.keep(r)
	return nil
}

// continuation returns rest, the rule read so far, joined with the lines up to
// the one that closes its quote, and moves on behind them.
func (p *parser) continuation(rest string) (string, bool) {
	// A comment has at most 255 bytes, escaped 510. A quote that is still open beyond
	// them never closes.
	window := p.text[:min(len(p.text), 1024)]
	for i := 0; i < len(window); i++ {
		switch window[i] {
		case '\\':
			i++
		case '"':
			end := strings.IndexByte(p.text[i:], '\n')
			if end < 0 {
				end, p.short = len(p.text)-i, !p.last
			}
			joined := rest + "\n" + p.text[:i+end]
			p.text = p.text[min(len(p.text), i+end+1):]
			return joined, true
		}
	}
	p.short = !p.last && len(window) == len(p.text)
	return "", false
}

// keep adds a rule to the current run, of which all rules are in one piece of
// memory. Pieces grow, because the number of rules is not known before.
func (p *parser) keep(r Rule) {
	const least, most = 32, 4096
	if len(p.rules) == cap(p.rules) {
		run := p.rules[p.run:]
		fresh := make([]Rule, len(run), max(least, min(2*cap(p.rules), most), 2*len(run)))
		copy(fresh, run)
		p.rules, p.run = fresh, 0
	}
	p.rules = append(p.rules, r)
}

// flush gives the current run to its chain.
func (p *parser) flush() {
	run := p.rules[p.run:len(p.rules):len(p.rules)]
	if len(run) > 0 {
		c := &p.save.Tables[p.table].Chains[p.chain]
		if len(c.Rules) == 0 {
			c.Rules = run
		} else {
			c.Rules = append(c.Rules, run...)
		}
	}
	p.run, p.name = len(p.rules), ""
}

// CutCounters reads "[PACKETS:BYTES]" and returns the text behind it.
func CutCounters(s string) (packets, bytes uint64, rest string, ok bool) {
	end := strings.IndexByte(s, ']')
	if s == "" || s[0] != '[' || end < 0 {
		return 0, 0, "", false
	}
	a, b, ok := strings.Cut(s[1:end], ":")
	if !ok {
		return 0, 0, "", false
	}
	packets, err := strconv.ParseUint(a, 10, 64)
	if err != nil {
		return 0, 0, "", false
	}
	bytes, err = strconv.ParseUint(b, 10, 64)
	return packets, bytes, s[end+1:], err == nil
}
