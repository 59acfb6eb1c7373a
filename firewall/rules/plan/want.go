package plan

import (
	"cmp"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// wantedFamily is the wanted rules of one family, whether they were compiled or
// printed by iptables-save: lines of text, each with the key by which a live
// rule is known to be the same.
type wantedFamily map[rules.Table]wantedTable

type wantedTable struct {
	chains []wantedChain
	jumps  []wantedJump
	// verbatim says that keys are the text of rules, not their ID.
	verbatim bool
}

// wantedChain has its lines, or the known chain to make them from.
type wantedChain struct {
	name   string
	lines  []line
	known  *knownChain
	family xfrm.Family
	table  rules.Table
}

// render makes the lines.
func (w *wantedChain) render() {
	if w.lines != nil || w.known == nil || w.known.rules.Len() == 0 {
		return
	}
	list := w.known.rules
	var buf []byte
	ends := make([]int, 0, list.Len())
	for _, r := range list.All() {
		buf = rules.AppendLine(buf, w.family, w.table, w.name, r)
		ends = append(ends, len(buf))
	}
	text, start := string(buf), 0
	w.lines = make([]line, len(ends))
	for i, end := range ends {
		w.lines[i] = newLine(text[start:end])
		start = end
	}
}

type line struct {
	key, text      string
	packets, bytes uint64
}

// wantedJump is one of our jumps; it shall stand behind so many foreign rules.
type wantedJump struct {
	from  string
	after int
	line
}

// wantRuleset renders a rule set, but for the chains of which the IDs are known.
func wantRuleset(rs rules.Ruleset, known func(xfrm.Family, rules.Chain) *knownChain) wantedFamily {
	want := make(wantedFamily)
	for _, c := range rs.Chains {
		w := wantedChain{name: c.Name, known: known(rs.Family, c), family: rs.Family, table: c.Table}
		if w.known.ids == "" {
			w.render()
			w.known.learn(w.lines)
		}
		t := want[c.Table]
		t.chains = append(t.chains, w)
		want[c.Table] = t
	}
	for _, h := range rs.Hooks {
		t := want[h.Table]
		text := string(rules.AppendLine(nil, rs.Family, h.Table, h.From, h.Rule()))
		t.jumps = append(t.jumps, wantedJump{from: h.From, line: newLine(text)})
		want[h.Table] = t
	}
	want.sort()
	return want
}

// newLine finds the ID in a line made by AppendLine.
func newLine(text string) line {
	i := commentAt(text) + len(rules.CommentPrefix)
	return line{key: text[i : i+rules.IDLen], text: text}
}

// commentAt returns where the comment begins in a line made by AppendLine. The
// comment is last; a log prefix before it begins in the same way.
func commentAt(text string) int { return strings.LastIndex(text, " "+rules.CommentPrefix) + 1 }

// wantSaved takes the rules of ours from a save, as they were printed.
func wantSaved(save live.Tables) wantedFamily {
	want := make(wantedFamily)
	for _, t := range save.Tables {
		w := wantedTable{verbatim: true}
		for _, c := range t.Chains {
			if c.Ours() {
				w.chains = append(w.chains, wantedChain{name: c.Name, lines: savedLines(c.Rules)})
				continue
			}
			for i, r := range c.Rules {
				if r.Jump() {
					w.jumps = append(w.jumps, wantedJump{c.Name, i - countJumps(c.Rules[:i]), savedLine(r)})
				}
			}
		}
		want[t.Name] = w
	}
	want.sort()
	return want
}

func savedLines(rules []live.Rule) []line {
	lines := make([]line, 0, len(rules))
	for _, r := range rules {
		// A newline would end the rule and begin another. None of ours has one.
		if !strings.Contains(r.Raw, "\n") {
			lines = append(lines, savedLine(r))
		}
	}
	return lines
}

func savedLine(r live.Rule) line { return line{r.Raw, r.Raw, r.Packets, r.Bytes} }

func countJumps(rules []live.Rule) int {
	n := 0
	for _, r := range rules {
		if r.Jump() {
			n++
		}
	}
	return n
}

func (w wantedFamily) sort() {
	for _, t := range w {
		slices.SortFunc(t.chains, func(a, b wantedChain) int { return cmp.Compare(a.name, b.name) })
		slices.SortStableFunc(t.jumps, func(a, b wantedJump) int { return cmp.Compare(a.from, b.from) })
	}
}
