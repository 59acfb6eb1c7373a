package reconcile

import (
	"fmt"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
)

// Diff lists the changes of both parts of a look.
func Diff(l gateway.Look) string {
	var b strings.Builder
	if !l.TableChange.Empty() {
		fmt.Fprintf(&b, "nftables %s\n", l.TableChange.Table)
		for line := range strings.Lines(l.TableChange.String()) {
			b.WriteString("  " + line)
		}
		b.WriteByte('\n')
	}
	if !l.Change.Empty() || l.TableChange.Empty() {
		b.WriteString(DiffText(plan.Compare(l.Result.Rulesets, l.Live.Rules), l.Names()))
	}
	return b.String()
}

// TableText is the wanted table as nft reads it where there is none yet, else the changes.
func TableText(l gateway.Look) string {
	switch {
	case l.TableChange.Empty():
		return ""
	case l.Live.Table.Table.Name == "":
		return "# nftables\n" + l.Table.String()
	}
	return "# nftables\n" + l.TableChange.String()
}

// DiffText lists the changes of an apply by family, table and chain: "+" is a rule that
// is added, "-" one that is removed, ">" one that moves. Names are those of tunnels, by ID.
func DiffText(changes []plan.ChainChange, names map[string]string) string {
	var b strings.Builder
	kinds := make(map[plan.ChainChangeKind]int)
	ops := make(map[plan.LineOp]int)
	jumps := 0
	at := ""
	for _, c := range changes {
		if table := fmt.Sprintf("%s %s", c.Family, c.Table); table != at {
			if at != "" {
				b.WriteByte('\n')
			}
			at = table
			b.WriteString(table + "\n")
		}
		title := c.Chain
		if c.Kind != plan.ChainChanged && c.Kind != plan.ChainJumps {
			title += " (" + string(c.Kind) + ")"
		}
		b.WriteString("  " + title + "\n")
		kinds[c.Kind]++
		for _, l := range c.Lines {
			b.WriteString("    " + lineText(l, names) + "\n")
			if c.Kind == plan.ChainJumps {
				jumps++
			} else {
				ops[l.Op]++
			}
		}
	}
	fmt.Fprintf(&b, "\n# %s added, %d removed, %d moved; %s new, %d deleted; %s set\n",
		text.Count(ops[plan.LineAdded], "rule"), ops[plan.LineRemoved], ops[plan.LineMoved],
		text.Count(kinds[plan.ChainNew], "chain"), kinds[plan.ChainGone], text.Count(jumps, "jump"))
	return b.String()
}

// lineText returns one rule, and its purpose after "#".
func lineText(l plan.LineChange, names map[string]string) string {
	text := string(l.Op)
	if l.Text != "" {
		text += " " + l.Text
	}
	about := string(l.Purpose)
	if l.Tunnel != "" {
		name := l.Tunnel
		if n := names[l.Tunnel]; n != "" {
			name = n + " (" + l.Tunnel + ")"
		}
		about += ", tunnel " + name
	}
	if l.Op == plan.LineMoved {
		about += fmt.Sprintf(", from place %d to %d", l.From, l.To)
	}
	if about == "" {
		about = "not a rule of xfrmfw"
	}
	return text + "  # " + strings.TrimPrefix(about, ", ")
}
