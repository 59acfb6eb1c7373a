// Package reconcile makes the live rules those that the kernel's states and policies ask
// for. There is one loop of attempts; a Source says where it gets the live rules from,
// and when an attempt is the last one. It prints nothing.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// attempts bounds how often the kernel is read again because it or another program
// changed something meanwhile.
const attempts = 8

// ErrBusy is the error of rules that other programs, or the kernel's policies, change
// faster than they can be written.
var ErrBusy = errors.New("the kernel's policies change faster than rules can be written; they follow its state of a moment ago: run xfrmfw apply again")

// Source is where the loop gets the live rules from.
type Source interface {
	// Live returns the rules in force and the memory, at the begin of an attempt.
	Live(context.Context) (gateway.Live, error)
	// Confirm is called before a change is committed. If it returns false the live rules
	// are read again first.
	Confirm(context.Context, gateway.Look) bool
	// Lost is called when the rules are no longer those that Live returned.
	Lost()
	// Done is called when the wanted rules are in force. If it returns false another
	// attempt is made.
	Done(context.Context, gateway.Look) (bool, error)
}

// Options say how the loop decides.
type Options struct {
	// RequireEnforce makes it an error that cross_check: enforce can't be in force. Without
	// it the rules are applied as under observe.
	RequireEnforce bool
	// RequireTests makes it an error that a test of the configuration fails. Without it the
	// failure is a warning.
	RequireTests bool
	// Beside, if set, does the work of an attempt, and reports whether it has changed the table
	// meanwhile. Rules that were compiled meanwhile are then older than the table, and another
	// attempt is made. Rules that were read are compared first, because others changed them.
	Beside func(work func()) (changed bool)
}

// attemptsBeside is how many attempts may be overtaken. Nothing is done beside the next one.
const attemptsBeside = 2

func (o Options) beside(attempt int, live gateway.Live, work func()) (changed bool) {
	if o.Beside == nil || !live.Known || attempt >= attemptsBeside {
		work()
		return false
	}
	return o.Beside(work)
}

// Loop reads, plans and commits until the source is content. The caller holds the lock.
// After an error the former rules are in force, or the error names those that are.
func Loop(ctx context.Context, g *gateway.Gateway, s Source, o Options) (Outcome, error) {
	var out Outcome
	var last error
	g.WillCommit()
	for attempt := range attempts {
		live, err := s.Live(ctx)
		if err != nil {
			return out, err
		}
		var look gateway.Look
		overtaken := o.beside(attempt, live, func() { look, err = g.Prepare(ctx, live) })
		if err == nil && overtaken {
			continue
		}
		if err == nil {
			err = g.PlanTable(&look)
		}
		if err != nil {
			return out, err
		}
		if why := look.Result.Unenforceable; o.RequireEnforce && len(why) > 0 {
			return out, fmt.Errorf("cross_check: enforce would drop packets that cannot be tagged: %s: have the IKE daemon set the tag (set_mark_in), or write cross_check: observe", text.FirstOf(why))
		}
		if err := testsError(look); o.RequireTests && err != nil {
			return out, err
		}
		out.Look = look
		out.warn(look.Warnings)
		if !look.InSync() {
			if !s.Confirm(ctx, look) {
				s.Lost()
				continue
			}
			var done gateway.Done
			var retry bool
			done, retry, last = g.Commit(ctx, look)
			if last == nil || retry {
				out.add(look.Change, done)
			}
			if retry {
				s.Lost()
				continue
			}
			if last != nil {
				return out, last
			}
			out.newPairs = append(out.newPairs, g.NewPairs(look)...)
		}
		tables, pairs := g.TakeMade()
		for _, table := range tables {
			out.addTable(table)
		}
		out.newPairs = append(out.newPairs, pairs...)
		out.warn(g.Remember(look))
		if done, err := s.Done(ctx, look); done || err != nil {
			return out, err
		}
	}
	if last == nil {
		last = fmt.Errorf("apply rules: %w", ErrBusy)
	}
	return out, last
}

// Outcome is the result of a reconcile.
type Outcome struct {
	// Look is the last one.
	Look gateway.Look
	// Counts adds up the rules and chains that were written, and Steps the commits.
	Counts plan.Counts
	Steps  int
	// Table counts the writes to the table of nftables.
	Table TableCounts
	// Families are those of the commits, in the order of the first commit of each.
	Families []xfrm.Family
	// Warnings are those of all attempts, each once; those of Look.Result are not among
	// them.
	Warnings []string

	// TableDecided is true if the removed table had the verdicts.
	TableDecided bool

	newPairs []kernel.Pair
}

// forgetLimit is how long conntrack may take to be read: some seconds for millions of
// entries.
const forgetLimit = time.Minute

// ForgetFlows deletes the conntrack entries of flows that NAT rewrote before their tunnel
// had rules. The rules drop those flows in any case; without the entry a flow starts anew
// and goes into the tunnel. The caller has released the lock, because conntrack may be
// large.
func (o *Outcome) ForgetFlows(ctx context.Context) {
	if err := ForgetFlows(ctx, o.TakeNewPairs()); err != nil {
		o.warn([]string{err.Error()})
	}
}

// TakeNewPairs returns the pairs of the tunnels that got their first rules, once.
func (o *Outcome) TakeNewPairs() []kernel.Pair {
	pairs := o.newPairs
	o.newPairs = nil
	return pairs
}

// ForgetFlows is Outcome.ForgetFlows for some pairs.
func ForgetFlows(ctx context.Context, pairs []kernel.Pair) error {
	if len(pairs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetLimit)
	defer cancel()
	if _, err := kernel.ForgetRewritten(ctx, pairs); err != nil {
		return fmt.Errorf("%w: flows that were NATed before their tunnel came up stay cut until they end", err)
	}
	return nil
}

// add counts the part of a change that a commit has put in force.
func (o *Outcome) add(change plan.Change, done gateway.Done) {
	for _, table := range done.Tables {
		o.addTable(table)
	}
	if done.Rules {
		o.addRules(change)
	}
}

func (o *Outcome) addRules(change plan.Change) {
	o.Steps += len(change.Steps)
	for _, s := range change.Steps {
		o.Counts.Written += s.Counts.Written
		o.Counts.Rules += s.Counts.Rules
		o.Counts.Deleted += s.Counts.Deleted
		o.Counts.Jumps += s.Counts.Jumps
		if !slices.Contains(o.Families, s.Family) {
			o.Families = append(o.Families, s.Family)
		}
	}
}

// TableCounts counts the changes of the table of nftables.
type TableCounts struct {
	// Commits are the transactions, Rules and Elements those that were added, Deleted the
	// elements that went.
	Commits, Rules, Elements, Deleted int
}

func (o *Outcome) addTable(change sets.Change) {
	if change.Empty() {
		return
	}
	o.Table.Commits++
	for _, op := range change.Ops() {
		switch op := op.(type) {
		case sets.AddRule:
			o.Table.Rules++
		case sets.AddElements:
			o.Table.Elements += len(op.Elements)
		case sets.DeleteElements:
			o.Table.Deleted += len(op.Elements)
		}
	}
}

// Changed reports whether anything was written.
func (o Outcome) Changed() bool { return o.Steps+o.Table.Commits > 0 }

func (o *Outcome) warn(warnings []string) {
	for _, w := range warnings {
		if !slices.Contains(o.Warnings, w) {
			o.Warnings = append(o.Warnings, w)
		}
	}
}

// AllWarnings returns the warnings of the outcome, of the marks and of the compiler.
func (o Outcome) AllWarnings() []string {
	l := o.Look
	l.Warnings = o.Warnings
	return l.AllWarnings()
}

// String returns the outcome in one line, such as "applied: 2 tunnels (1 up), 3 guarded
// pairs; 226 rules written, ipv4 and ipv6".
func (o Outcome) String() string {
	tunnels := fmt.Sprintf("%s (%d up)", text.Count(len(o.Look.Set.Tunnels), "tunnel"), o.Up())
	if !o.Changed() {
		return "no change: " + tunnels + "; rules in sync"
	}
	var parts []string
	if o.Table.Commits > 0 && (o.Look.Engine == engine.NFTables || o.Steps == 0) {
		parts = append(parts, o.Table.String())
	}
	if o.Steps > 0 {
		parts = append(parts, o.rulesWritten())
	}
	return fmt.Sprintf("applied: %s, %s; %s", tunnels, text.Count(o.GuardedPairs(), "guarded pair"), strings.Join(parts, "; "))
}

// String counts the writes to the table.
func (c TableCounts) String() string {
	return fmt.Sprintf("table inet xfrmfw: %s and %s written, %s deleted", text.Count(c.Rules, "rule"), text.Count(c.Elements, "element"), text.Count(c.Deleted, "element"))
}

// rulesWritten counts the writes to iptables, and to the small table beside them.
func (o Outcome) rulesWritten() string {
	c, done := o.Counts, ""
	if o.Look.Engine == engine.IPTables {
		c.Rules += o.Table.Rules
	}
	switch {
	case c.Rules > 0:
		done = text.Count(c.Rules, "rule") + " written"
	case c.Jumps > 0:
		done = text.Count(c.Jumps, "jump") + " set"
	default:
		done = fmt.Sprintf("%s emptied, %s deleted", text.Count(c.Written, "chain"), text.Count(c.Deleted, "chain"))
	}
	var families []string
	for _, f := range o.Families {
		families = append(families, f.String())
	}
	slices.Sort(families)
	return done + ", " + strings.Join(families, " and ")
}

// OwnLines are the lines that the host's own rules need where nothing of xfrmfw accepts:
// empty where it does.
func (o Outcome) OwnLines() []string {
	if o.Look.Table.Name == "" || len(o.Look.Result.Rulesets) > 0 && o.Look.Accepts || !o.Changed() {
		return nil
	}
	v := o.Look.Config.Marks.Verified
	verified := fmt.Sprintf("meta mark & %#x == %#x accept", v, v)
	return []string{
		"nothing of xfrmfw accepts: the host's own rules of nftables need these lines, in base chains of priority -4 or later:",
		"  input    meta l4proto { esp, ah } accept",
		"  input    udp dport { 500, 4500 } fib daddr type local accept",
		"  input    " + verified,
		"  forward  " + verified,
		"  output   meta l4proto { esp, ah } accept",
		"  output   udp sport { 500, 4500 } accept",
		"  output   " + verified,
	}
}

// Up returns the number of tunnels that are up.
func (o Outcome) Up() int {
	up := 0
	for _, t := range o.Look.Set.Tunnels {
		if t.Up() {
			up++
		}
	}
	return up
}

// GuardedPairs returns the number of pairs of a local and a remote prefix that are
// guarded.
func (o Outcome) GuardedPairs() int {
	pairs := make(map[[2]netip.Prefix]bool)
	for _, g := range o.Look.Result.InForce() {
		if !g.Exception {
			pairs[[2]netip.Prefix{g.Local, g.Remote}] = true
		}
	}
	return len(pairs)
}
