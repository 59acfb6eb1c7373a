package reconcile

import (
	"fmt"
	"io"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
)

// schema is that of all reports. Keys may be added, never changed or removed.
const schema = 1

// ApplyReport is the outcome of an apply in the shape of its JSON form.
type ApplyReport struct {
	Schema int `json:"schema"`
	// Engine is the one with rules in force.
	Engine       string `json:"engine"`
	Changed      bool   `json:"changed"`
	Tunnels      int    `json:"tunnels"`
	Up           int    `json:"up"`
	GuardedPairs int    `json:"guarded_pairs"`
	// Written are the rules and chains that were written, Deleted the chains, Jumps our
	// jumps that were set, Commits the runs of iptables-restore.
	RulesWritten  int `json:"rules_written"`
	ChainsWritten int `json:"chains_written"`
	ChainsDeleted int `json:"chains_deleted"`
	JumpsSet      int `json:"jumps_set"`
	Commits       int `json:"commits"`
	// Table is the writes to the table of nftables.
	Table    TableReport `json:"table"`
	Families []string    `json:"families"`
	// ConfirmSeconds is the time of apply --confirm, 0 for none.
	ConfirmSeconds int      `json:"confirm_seconds"`
	Warnings       []string `json:"warnings"`
}

// TableReport counts the transactions of the table of nftables, and their writes.
type TableReport struct {
	Commits         int `json:"commits"`
	RulesWritten    int `json:"rules_written"`
	ElementsWritten int `json:"elements_written"`
	ElementsDeleted int `json:"elements_deleted"`
}

// Report returns the outcome of an apply as its JSON form has it.
func (o Outcome) Report() ApplyReport {
	r := ApplyReport{
		Schema: schema, Changed: o.Changed(), Engine: string(o.Look.Engine), Tunnels: len(o.Look.Set.Tunnels), Up: o.Up(), GuardedPairs: o.GuardedPairs(),
		RulesWritten: o.Counts.Rules, ChainsWritten: o.Counts.Written, ChainsDeleted: o.Counts.Deleted, JumpsSet: o.Counts.Jumps,
		Commits: o.Steps, Families: []string{}, Warnings: list(o.AllWarnings()),
	}
	r.Table = TableReport{o.Table.Commits, o.Table.Rules, o.Table.Elements, o.Table.Deleted}
	for _, f := range o.Families {
		r.Families = append(r.Families, f.String())
	}
	return r
}

// ForgetReport is the outcome of forget in the shape of its JSON form.
type ForgetReport struct {
	Schema int `json:"schema"`
	// Forgotten is the number of pairs, ForgottenLines that of routes beside a tunnel.
	Forgotten      int         `json:"forgotten"`
	ForgottenLines int         `json:"forgotten_lines"`
	Apply          ApplyReport `json:"apply"`
}

// NewForgetReport reports on the forgotten pairs and lines, and the apply that followed.
func NewForgetReport(f Forgotten, out Outcome) ForgetReport {
	return ForgetReport{Schema: schema, Forgotten: f.Pairs, ForgottenLines: f.Lines, Apply: out.Report()}
}

// ClearReport is the outcome of clear in the shape of its JSON form.
type ClearReport struct {
	Schema        int `json:"schema"`
	ChainsRemoved int `json:"chains_removed"`
	JumpsRemoved  int `json:"jumps_removed"`
	// TableRemoved is true if the table of nftables was removed.
	TableRemoved bool `json:"table_removed"`
	// Leftovers could not be removed.
	Leftovers []string `json:"leftovers"`
	// changed is true if rules of iptables were removed, decided if the table had the
	// verdicts, guards if they were kept.
	changed, decided, guards bool
}

// NewClearReport reports on the outcome of a clear, which may have kept the guards.
func NewClearReport(out Outcome, keptGuards bool) ClearReport {
	return ClearReport{
		Schema: schema, ChainsRemoved: out.Counts.Deleted, JumpsRemoved: out.Counts.Jumps,
		Leftovers: differences(out.Look.Change.Leftovers), TableRemoved: out.Table.Commits > 0,
		changed: out.Steps > 0, decided: out.TableDecided, guards: keptGuards,
	}
}

// WriteText writes the report for a person to read.
func (r ClearReport) WriteText(w io.Writer) error {
	var removed []string
	if r.changed {
		removed = append(removed, fmt.Sprintf("%s and %s", text.Count(r.ChainsRemoved, "chain"), text.Count(r.JumpsRemoved, "jump")))
	}
	if r.TableRemoved && !r.changed || r.decided {
		removed = append(removed, "table inet xfrmfw")
	}
	answer := "nothing to clear"
	if len(removed) > 0 {
		answer = "cleared: " + strings.Join(removed, ", ") + " removed"
		if r.guards {
			answer += "; the guards stay until the next apply"
		}
	}
	return writeLines(w, append(r.Leftovers, answer))
}

// CheckReport is the outcome of check in the shape of its JSON form.
type CheckReport struct {
	Schema int `json:"schema"`
	// Engine is the one that the rules were compared with.
	Engine string `json:"engine"`
	InSync bool   `json:"in_sync"`
	// Loaded is false if no rule of xfrmfw is in place.
	Loaded  bool `json:"loaded"`
	Tunnels int  `json:"tunnels"`
	// Rules is the number of wanted rules.
	Rules       int      `json:"rules"`
	Differences []string `json:"differences"`
	Warnings    []string `json:"warnings"`

	// stands is the other engine, if its rules are in force.
	stands engine.Name
}

// NewCheckReport compares the live rules of a look with the wanted ones.
func NewCheckReport(l gateway.Look) CheckReport {
	total, unloaded := notLoaded(l.Result.Rulesets, l.Change.Differences)
	if l.Table.Name != "" {
		for _, c := range l.Table.Chains {
			total += len(c.Rules)
		}
		unloaded = unloaded && l.Live.Table.Table.Name == ""
	}
	inSync := l.InSync()
	return CheckReport{
		Schema: schema, InSync: inSync, Loaded: inSync || !unloaded, Tunnels: len(l.Set.Tunnels), Rules: total,
		Engine: string(l.Engine), Differences: list(l.Differences()), Warnings: list(l.AllWarnings()),
		stands: l.Stands(),
	}
}

// notLoaded returns the number of wanted rules, and whether all of them are missing and
// nothing else differs: the host has no rules of xfrmfw.
func notLoaded(wanted []rules.Ruleset, differences []plan.Difference) (int, bool) {
	total := 0
	for _, rs := range wanted {
		for _, chain := range rs.Chains {
			total += chain.Rules.Len()
		}
	}
	missing := 0
	for _, d := range differences {
		switch d.Kind {
		case plan.RuleMissing:
			missing++
		case plan.ChainMissing, plan.JumpMissing:
		default:
			return total, false
		}
	}
	return total, missing == total
}

// shortList is the number of differences that are listed without --verbose.
const shortList = 10

// WriteText writes the report for a person to read, the answer first. Where no rule is loaded, or
// the other engine is in force, the differences are listed only in a verbose report.
func (r CheckReport) WriteText(w io.Writer, verbose bool) error {
	most := 0
	answer := fmt.Sprintf("not loaded: none of the %s is in place. Load them with: xfrmfw apply", text.Count(r.Rules, "rule"))
	switch {
	case r.InSync:
		return writeLines(w, []string{"in sync: " + text.Count(r.Tunnels, "tunnel")})
	case r.stands != "":
		answer = fmt.Sprintf("out of sync: engine %s is in force, and engine %s was asked for. Check the rules in force with: xfrmfw check --engine %[1]s", r.stands, r.Engine)
	case r.Loaded:
		answer = fmt.Sprintf("out of sync: %s. Repair with: xfrmfw apply", text.Count(len(r.Differences), "difference"))
		most = shortList
	}
	if verbose {
		most = len(r.Differences)
	}
	return writeLines(w, append([]string{answer}, shorten(r.Differences, most)...))
}

// shorten returns the first lines of a list of differences, each without its ID, and the number of the others.
func shorten(differences []string, most int) []string {
	if len(differences) <= most+1 {
		most = len(differences)
	}
	var lines []string
	for _, d := range differences[:most] {
		rule, comment, _ := strings.Cut(d, " -m comment --comment ")
		if _, purpose, tunnel, ok := rules.ParseComment(comment); ok && !strings.Contains(comment, " ") {
			d = strings.TrimRight(fmt.Sprintf("%s  # %s %s", rule, purpose, tunnel), " ")
		}
		lines = append(lines, "  "+d)
	}
	if rest := len(differences) - most; rest > 0 && most > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more (--verbose)", rest))
	}
	return lines
}

func writeLines(w io.Writer, lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

func differences(all []plan.Difference) []string {
	lines := make([]string, 0, len(all))
	for _, d := range all {
		lines = append(lines, d.String())
	}
	return lines
}

// list returns an empty list for nil, which JSON would have as null.
func list(lines []string) []string {
	if lines == nil {
		return []string{}
	}
	return lines
}
