package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/firewall/limit"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// recountLimit is how long the kernel may take to tell counters, a matter of
// milliseconds.
const recountLimit = 5 * time.Second

// Done has the changes that a commit has put in force: those of the table in their order,
// and that of the rules.
type Done struct {
	Tables []sets.Change
	Rules  bool
}

// Commit applies the changes of a look: first those of the part that decides, so that a
// new engine is in force before the rules of the other one go. If retry is true the live
// rules have to be read and planned again, and the error is only the reason. After another
// error the former rules are in force, or the error names those that are.
func (g *Gateway) Commit(ctx context.Context, l Look) (done Done, retry bool, err error) {
	former := l.Live.Table
	first, both := g.tableBesideRules(l)
	if both {
		l.TableChange = sets.Diff(former.Table, first)
	} else {
		first = l.Table
	}
	if both || g.engine.TableDecides() {
		if retry, err = g.commitTable(l, first, &done); err != nil {
			return done, retry, err
		}
	}
	if retry, err = g.commitRules(ctx, l); err == nil {
		done.Rules = !l.Change.Empty()
		if both || !g.engine.TableDecides() {
			retry, err = g.commitRest(l, &done)
		}
	}
	if err == nil || retry {
		return done, retry, err
	}
	if done.Rules {
		err = g.programs.Undo(ctx, l.Change, err)
	} else if len(done.Tables) == 0 {
		err = fmt.Errorf("%w; the former rules are in force", err)
	}
	if len(done.Tables) > 0 {
		err = errors.Join(err, g.undoTable(former))
	}
	return done, false, err
}

// commitRest applies the rest of the table's change after the rules. It reads the table
// again, because a commit of iptables-nft makes a new generation.
func (g *Gateway) commitRest(l Look, done *Done) (retry bool, err error) {
	if l.Live.Table, err = g.ReadTable(); err != nil {
		return false, err
	}
	l.TableChange = sets.Diff(l.Live.Table.Table, l.Table)
	return g.commitTable(l, l.Table, done)
}

// tableBesideRules returns the table for the time of a change of the engine, in which the
// rules of the iptables engine and the verdicts of the table both stand. It leaves TAG to
// the rules, which drop packets without it under enforce.
func (g *Gateway) tableBesideRules(l Look) (sets.Table, bool) {
	if g.table == nil || l.TableChange.Empty() || l.Change.Empty() {
		return sets.Table{}, false
	}
	_, decided := l.Live.Table.Table.Chain(program.Decides)
	if decided == g.engine.TableDecides() || !decided && !live.HasChains(l.Live.Rules, rules.Mangle) {
		return sets.Table{}, false
	}
	return program.Table(&l.Result.Facts, program.Options{BesideRules: true}), true
}

// commitRules applies the change of the rules of iptables.
func (g *Gateway) commitRules(ctx context.Context, l Look) (retry bool, err error) {
	if l.Change.Empty() {
		return false, nil
	}
	err = g.programs.Apply(ctx, l.Change)
	switch {
	case err == nil:
		return false, nil
	case g.programs.Learn(ctx, err):
		retry = true
	case errors.Is(err, iptables.ErrChanged):
		retry = true
	}
	return retry, fmt.Errorf("apply rules: %w", err)
}

// Recount gives the rules that stay in the rewritten chains of a change the counters of
// this moment in place of those of the last reading. Packets that are counted from here
// to the commit are lost, in these chains alone.
func (g *Gateway) Recount(ctx context.Context, change plan.Change) error {
	ctx, cancel := context.WithTimeout(ctx, recountLimit)
	defer cancel()
	for i, step := range change.Steps {
		chains := step.Rewrites()
		if len(chains) == 0 {
			continue
		}
		var counters []kernel.RuleCounter
		var err error
		if g.programs.Variant() == iptables.NFT {
			counters, err = kernel.TableCounters(ctx, step.Family, string(step.Table), chains, rules.CommentPrefix)
		} else {
			counters, err = kernel.LegacyCounters(step.Family, string(step.Table), rules.CommentPrefix)
		}
		if err != nil {
			return err
		}
		now := make(map[string]plan.Counter, len(counters))
		for _, c := range counters {
			if id, _, _, ok := rules.ParseComment(c.Text); ok {
				now[id] = plan.Counter{Packets: c.Packets, Bytes: c.Bytes}
			}
		}
		change.Steps[i] = step.Recount(now)
	}
	return nil
}

// NewPairs returns the pairs of the tunnels that get their first rules by the change of a
// look. It is called between Commit and Applied.
func (g *Gateway) NewPairs(l Look) []kernel.Pair {
	known := g.tracker.Tunnels()
	if g.engine.TableDecides() {
		known = tunnelsOf(l.Live.Table.Table)
	}
	var pairs []kernel.Pair
	for _, in := range l.Result.InForce() {
		if in.Source == guard.FromPolicy && !in.Exception && !known[in.Tunnel] && in.Local.Bits() > 0 {
			pairs = append(pairs, kernel.Pair{Local: in.Local, Remote: in.Remote})
		}
	}
	return pairs
}

// tunnelsOf returns the IDs of the tunnels with elements in a table.
func tunnelsOf(t sets.Table) map[string]bool {
	found := make(map[string]bool)
	for i := range t.Sets {
		for _, e := range t.Sets[i].Elements {
			if e.Comment != "" {
				found[program.TunnelOf(e.Comment)] = true
			}
		}
	}
	return found
}

// Remember brings the memory and the records of the updown hook up to date with a look,
// and returns warnings: failures are no more, because rules without a memory are better
// than old rules. The caller holds the lock.
func (g *Gateway) Remember(l Look) (warnings []string) {
	warnings = g.saveMemory(l)
	if g.peers == nil {
		return warnings
	}
	if err := g.peers.Sweep(l.Peers.Stale); err != nil {
		warnings = append(warnings, err.Error())
	}
	return warnings
}

func (g *Gateway) saveMemory(l Look) (lines []string) {
	if l.Config.Guard.Forget {
		g.remembered = nil
		return nil
	}
	held := l.Live.Memory
	fresh := remembered(l)
	g.remembered = fresh.Guards
	lines = append(inWords(memoryExcess(fresh)), unsafeWarnings(fresh.Unsafe, l.Config.Guard.Pairs)...)
	ways := guard.RememberLines(held.Lines, l.Result.Lines, l.Config.Guard, held.Now)
	if !held.Changed(fresh.Guards, ways) {
		return lines
	}
	if err := g.memory.Save(fresh.Guards, ways, held.Now); err != nil {
		lines = append(lines, err.Error())
	}
	return lines
}

// remembered is the memory after a look.
func remembered(l Look) guard.Remembered {
	held := l.Live.Memory
	return guard.Remember(held.Guards, l.Result.InForce(), l.Set, l.Snapshot.Host, connections(l.Peers), l.Config.Guard, held.Now)
}

// MemoryExcess returns the limits of the memory that the next reconcile reaches.
func (g *Gateway) MemoryExcess(l Look) []limit.Excess {
	if l.Config.Guard.Forget || g.FromSnapshot() {
		return nil
	}
	return memoryExcess(remembered(l))
}

// MemoryWarnings are those limits in words.
func (g *Gateway) MemoryWarnings(l Look) []string { return inWords(g.MemoryExcess(l)) }

// Excess returns the limits that were reached: those of the rules, of the records of the
// updown hook, and of the memory.
func (g *Gateway) Excess(l Look) []limit.Excess {
	all := slices.Concat(l.Result.Excess, g.MemoryExcess(l))
	if g.peers != nil {
		all = append(all, recordsExcess(g.peers.Full())...)
	}
	return all
}

// unsafeWarnings name the pairs that are not remembered, and that the configuration does
// not name either, with the line that does.
func unsafeWarnings(pairs []guard.Unsafe, configured []guard.Guard) []string {
	const most = 3
	var warnings []string
	left := 0
	for _, p := range pairs {
		local, remote := p.Guard.Local, p.Guard.Remote
		if slices.ContainsFunc(configured, func(c guard.Guard) bool { return covers(c.Local, local) && covers(c.Remote, remote) }) {
			continue
		}
		if len(warnings) == most {
			left++
			continue
		}
		warnings = append(warnings, fmt.Sprintf(
			"tunnel %s: %s <-> %s is guarded only while its policies stand, because %s: to guard it also when the tunnel is gone, write guard: {pairs: [{local: %s, remote: %s}]}",
			p.Guard.Tunnel, remote, local, p.Reason, local, remote))
	}
	if left > 0 {
		warnings = append(warnings, fmt.Sprintf("and %s more that are guarded only while their policies stand", text.Count(left, "pair")))
	}
	return warnings
}

func covers(p, q netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) }
