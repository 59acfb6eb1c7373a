package status

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
)

// details writes a paragraph for every tunnel.
func (p *page) details() {
	shared := make(map[string]int, len(p.SharedRules))
	for i, r := range p.SharedRules {
		shared[r.ID] = i
	}
	for _, t := range p.Tunnels {
		p.line("")
		p.detail(t, shared)
	}
}

// maxText is how many columns are shown of a text that a peer chose.
const maxText = 300

func (p *page) detail(t Tunnel, shared map[string]int) {
	title := t.ID
	if t.Name != "" {
		title = text.Label(t.Name, 60) + " (" + t.ID + ")"
	}
	p.line(title + ", " + string(t.State))
	p.field("connection", t.Connection)
	p.field("identity", t.PeerID)
	p.field("user", t.User)
	if len(t.VirtualIPs) > 0 {
		labels := make([]string, len(t.VirtualIPs))
		for i, ip := range t.VirtualIPs {
			labels[i] = text.Label(ip, 50)
		}
		p.wrap("  virtual IP  ", strings.Join(labels, ", "))
	}
	p.wrap("  outer       ", t.outer())
	for i, s := range t.Selectors {
		word := "  selectors   "
		if i > 0 {
			word = "              "
		}
		if i == shortList && len(t.Selectors) > shortList+1 && !p.options.Verbose {
			p.line(fmt.Sprintf("%sand %d more (--verbose)", word, len(t.Selectors)-i))
			break
		}
		p.wrap(word, s.end(s.Local, s.LocalPort)+" <-> "+s.end(s.Remote, s.RemotePort))
	}
	evidence := string(t.Evidence)
	if t.Reason != "" {
		evidence += ": " + text.Escape(t.Reason, maxText)
	}
	if t.evidence() != "-" {
		p.wrap("  evidence    ", evidence)
	}
	if p.live {
		p.wrap("  packets     ", t.PacketsBy.String())
	}
	p.states(t, shared)
}

// field writes a labelled line of text that may be a peer's own.
func (p *page) field(name, value string) {
	if value != "" {
		p.wrap(fmt.Sprintf("  %-12s", name), text.Label(value, maxText))
	}
}

// outer describes the tunnel from outside.
func (t Tunnel) outer() string {
	text := fmt.Sprintf("%s <-> %s, %s mode, reqid %d", open(t.Local), open(t.Remote), t.Mode, t.Reqid)
	if t.IfID != 0 {
		text += fmt.Sprintf(", if_id %d", t.IfID)
	}
	if t.Mark != "" {
		text += ", mark " + t.Mark
	}
	return text
}

// states writes the SAs, each group with the rules that serve all of it: after
// a rekey the old and the new one share theirs.
func (p *page) states(t Tunnel, shared map[string]int) {
	for i := 0; i < len(t.SAs); {
		first, from := t.SAs[i], i
		for ; i < len(t.SAs) && t.SAs[i].Dir == first.Dir && slices.Equal(t.SAs[i].Rules, first.Rules); i++ {
			if i-from < shortList || p.options.Verbose {
				p.sa(t.SAs[i], t.Reason)
			}
		}
		if more := i - from - shortList; more > 0 && !p.options.Verbose {
			p.line(fmt.Sprintf("  and %s more of that direction (--verbose)", text.Count(more, "SA")))
		}
		p.rules(t, first.Rules, shared, 4)
	}
	var ready, guarding []string
	for _, r := range t.Rules {
		if roleOf(r) == guards {
			guarding = append(guarding, r.ID)
		} else {
			ready = append(ready, r.ID)
		}
	}
	if len(t.SAs) == 0 && len(ready) > 0 && p.options.Rules {
		p.line("  rules, ready for the next SA")
		p.rules(t, ready, shared, 4)
	}
	if guarding = append(guarding, t.GuardedBy...); len(guarding) == 0 {
		return
	}
	if p.options.Rules {
		p.line("  guards against cleartext")
	}
	p.rules(t, guarding, shared, 1)
}

func (p *page) sa(sa SA, reason string) {
	proto := sa.Proto
	if sa.Encap != "" {
		proto += " in " + sa.Encap
	}
	evidence := string(sa.Evidence)
	if sa.Dir == "out" {
		evidence = ""
	}
	p.line(fmt.Sprintf("  %-3s %s  %-22s  age %-7s  %10s pkts  %9s  %s",
		sa.Dir, sa.SPI, proto, duration(sa.AgeSeconds), count(sa.Packets), size(sa.Bytes), evidence))
	if sa.Dir == "in" && sa.Reason != "" && sa.Reason != reason {
		p.wrap("      ", text.Escape(sa.Reason, maxText))
	}
}

// rules writes the rules with the given IDs: the tunnel's, then the shared ones.
// More than most of one kind, as a wide selector has in a large tree, make one line.
// Without the option it writes nothing.
func (p *page) rules(t Tunnel, ids []string, shared map[string]int, most int) {
	if !p.options.Rules {
		return
	}
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	kinds := make(map[kind][]Rule)
	for _, r := range t.Rules {
		if wanted[r.ID] {
			kinds[kindOf(r)] = append(kinds[kindOf(r)], r)
		}
	}
	for _, r := range t.Rules {
		all := kinds[kindOf(r)]
		switch {
		case !wanted[r.ID]:
		case len(all) == 0: // shown already
		case p.options.Verbose || len(all) <= most:
			p.rule(r, "")
		default:
			p.rule(sum(all), "")
			delete(kinds, kindOf(r))
		}
	}
	for _, id := range ids {
		if i, ok := shared[id]; ok {
			p.rule(p.SharedRules[i], "*")
		}
	}
}

// kind is the common part of rules that are shown as one.
type kind struct {
	family  string
	table   rules.Table
	root    string
	purpose rules.Purpose
}

func kindOf(r Rule) kind { return kind{r.Family, r.Table, rootOf(r.Chain), r.Purpose} }

// sum makes one line of rules of one kind.
func sum(list2 []Rule) Rule {
	s := list2[0]
	s.ID = text.Count(len(list2), "rule")
	for _, r := range list2[1:] {
		s.Packets += r.Packets
		s.Bytes += r.Bytes
		if r.Chain != s.Chain {
			s.Chain = rules.ChainPrefix + rootOf(r.Chain) + "..."
		}
	}
	return s
}

// rule writes one rule. The flag marks those that serve other tunnels as well.
func (p *page) rule(r Rule, flag string) {
	counters := ""
	if p.live {
		counters = fmt.Sprintf("%8s pkts %9s ", count(r.Packets), size(r.Bytes))
	}
	p.line(fmt.Sprintf("     %1s %s %-6s %-28s %-12s %s%s",
		flag, r.Family, r.Table, text.Escape(r.Chain, 28), text.Escape(string(r.Purpose), 12), counters, r.ID))
	if p.options.Verbose && r.Rule != "" {
		p.wrap("         ", text.Escape(r.Rule, 2000))
	}
}
