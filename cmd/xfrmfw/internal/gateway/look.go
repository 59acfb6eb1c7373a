package gateway

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/memory"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/peers"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/nftables"
	"github.com/xfrmfw/xfrmfw/firewall/prove"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Live is the state of a host besides its kernel's: the rules in force and the
// remembered guards.
type Live struct {
	// Rules are all rules, or those of others where our own are known from our commits. Nil
	// is not known.
	Rules map[xfrm.Family]live.Tables
	// Table is our table of nftables.
	Table  nftables.State
	Memory memory.Memory
	// Known is true if the rules were not read, as they are those of the last commit. Prepare
	// reads the memory then.
	Known bool
	// Warnings are those of reading the memory.
	Warnings []string
	// ReadAt is when the rules were read, and Cost how long that took.
	ReadAt time.Time
	Cost   time.Duration
}

// Look is one reading of a host and its consequences.
type Look struct {
	Live     Live
	Snapshot xfrm.Snapshot
	Set      xfrm.Set
	Peers    peers.Found
	// Config is the configuration of the rules, with the marks that were chosen.
	Config firewall.Config
	// Engine is the one that laid the rules out.
	Engine engine.Name
	// Accepts is true if rules of iptables are put in force beside the table.
	Accepts bool
	// Result holds the wanted rules of iptables.
	Result compile.Result
	// Change leads from the live rules to the wanted ones. It is empty after Read.
	Change plan.Change
	// Table is the wanted table of nftables, and TableChange leads to it from the live one.
	Table       sets.Table
	TableChange sets.Change
	// TableDrift is true if the wanted table is that of last time, so that another program
	// has changed the live one.
	TableDrift bool
	// Tests are the outcomes of the configuration's tests, on the wanted rules. There are
	// none after Read.
	Tests []prove.Outcome
	// Warnings are for the user, besides those of Result.
	Warnings []string

	// input is the source of Result and Table.
	input firewall.Input
	// foreignMatters is true if rules of others can wipe VERIFIED.
	foreignMatters bool
}

// Names returns the names of the tunnels that have one, by their ID.
func (l Look) Names() map[string]string {
	names := make(map[string]string)
	for i, t := range l.Set.Tunnels {
		if i < len(l.Result.Tunnels) && l.Result.Tunnels[i].Name != "" {
			names[t.ID] = l.Result.Tunnels[i].Name
		}
	}
	return names
}

// Input is all that the rules follow from.
func (l Look) Input() firewall.Input { return l.input }

// InSync reports whether nothing has to be changed.
func (l Look) InSync() bool { return l.Change.Empty() && l.TableChange.Empty() }

// Stands returns the other engine, if the rules in force are its, and "" else.
func (l Look) Stands() engine.Name {
	table := l.Live.Table.Table
	_, decides := table.Chain(program.Decides)
	switch {
	case l.Engine == engine.IPTables && decides:
		return engine.NFTables
	case l.Engine == engine.NFTables && table.Name != "" && !decides:
		return engine.IPTables
	}
	return ""
}

// Differences are those that the changes mend, one line each.
func (l Look) Differences() []string {
	var lines []string
	for _, d := range l.Change.Differences {
		lines = append(lines, d.String())
	}
	return append(lines, l.TableDifferences()...)
}

// Look reads the live rules and the kernel and plans the change.
func (g *Gateway) Look(ctx context.Context) (Look, error) {
	live, err := g.ReadLive(ctx)
	if err != nil {
		return Look{}, err
	}
	return g.Plan(ctx, live)
}

// ReadLive reads the live rules and the memory. The memory is read at every look, under
// the caller's lock, because another xfrmfw may have written it.
//
// With many tunnels iptables-save takes longer than all else, so the first call compiles
// meanwhile, without the live rules, to fill the caches. Nothing is taken from that
// compilation: Plan reads the kernel again. Where the table has the verdicts there are few
// rules of iptables, and nothing is compiled meanwhile.
func (g *Gateway) ReadLive(ctx context.Context) (Live, error) {
	var live Live
	var tableErr error
	g.findCompanion()
	meanwhile := make(chan struct{})
	go func() {
		defer close(meanwhile)
		live.Memory, live.Warnings = g.ReadMemory()
		if !g.engine.TableDecides() {
			g.precompile(ctx, live)
		}
	}()
	began := time.Now()
	rules, err := g.Rules(ctx)
	cost := time.Since(began)
	if g.engine.TableDecides() && err == nil {
		live.Table, tableErr = g.ReadTable()
	}
	<-meanwhile
	if err != nil {
		return Live{}, err
	}
	live.Rules, live.ReadAt, live.Cost = rules, began, cost
	g.tracker.Observed(rules)
	if !g.engine.TableDecides() {
		live.Table, tableErr = g.ReadTable()
	}
	return live, tableErr
}

// Known reports whether the live rules are known from the last reading and the commits
// since, so that KnownLive can stand for ReadLive.
func (g *Gateway) Known() bool { return g.tracker.Known() }

// KnownLive reads our table if anything of nf_tables changed, and returns it with the
// foreign rules that are known. The memory is left to Prepare.
func (g *Gateway) KnownLive() (Live, error) {
	table, err := g.ReadTable()
	return Live{Rules: g.tracker.Others(), Table: table, Known: true}, err
}

// Forget has the live rules read again: others changed them, a commit failed, or they
// need not be held.
func (g *Gateway) Forget() {
	g.tracker.Forget()
	g.table.forget()
}

// ReadMemory reads the remembered guards, and returns warnings about them.
func (g *Gateway) ReadMemory() (memory.Memory, []string) {
	if g.config.Firewall.Guard.Forget || g.FromSnapshot() {
		return memory.Memory{}, nil
	}
	remembered := g.memory.Load()
	if remembered.Warning != "" {
		return remembered, []string{remembered.Warning}
	}
	return remembered, nil
}

// precompile fills the caches once. Its errors are met again by Plan, which reports them.
func (g *Gateway) precompile(ctx context.Context, live Live) {
	if g.FromSnapshot() || g.compiledOnce || g.config.Firewall.AutoMarks {
		return
	}
	s, err := g.reader.Read(ctx)
	if err != nil {
		return
	}
	look, _ := g.compile(s, live)
	g.tracker.Expect(look.Result.Rulesets)
}

// Plan reads the kernel and plans the change from the live rules to the wanted ones. The
// live rules come first, from ReadLive or KnownLive, because the NAT and the marks of
// others are part of the compiler's input. The tests of the configuration are run on the
// wanted rules.
func (g *Gateway) Plan(ctx context.Context, live Live) (Look, error) {
	look, err := g.Prepare(ctx, live)
	if err == nil {
		err = g.PlanTable(&look)
	}
	return look, err
}

// Prepare is Plan without the change of the table. It neither reads nor writes the table
// that is known, nor what Ahead uses, so that Ahead may be called meanwhile.
func (g *Gateway) Prepare(ctx context.Context, live Live) (Look, error) {
	if live.Known {
		live.Memory, live.Warnings = g.ReadMemory()
	}
	look, err := g.prepare(ctx, live)
	if err == nil {
		g.test(&look)
	}
	return look, err
}

func (g *Gateway) prepare(ctx context.Context, live Live) (Look, error) {
	look, err := g.Read(ctx, live)
	if err != nil || g.programs == nil && !g.FromSnapshot() {
		return look, err
	}
	look.Change, err = g.tracker.Plan(look.Result.Rulesets)
	if err != nil || look.Change.Empty() {
		return look, err
	}
	// Rules in sync need no feature more, so only others are worth the question.
	if !g.AskFeatures(ctx) {
		return look, nil
	}
	if look, err = g.compile(look.Snapshot, live); err != nil {
		return Look{}, err
	}
	look.Change, err = g.tracker.Plan(look.Result.Rulesets)
	return look, err
}

// AskFeatures asks the kernel, and without commits the programs, for the features that
// rules need. It reports whether others are lacking than before, so that the wanted
// rules have to be compiled again.
func (g *Gateway) AskFeatures(ctx context.Context) bool {
	if g.programs == nil {
		return false
	}
	lacks := g.programs.Lacks(ctx, !g.commits)
	if maps.Equal(lacks, g.lacks) {
		return false
	}
	g.lacks = lacks
	return true
}

// Read reads the kernel and compiles the wanted rules. After a *MarksError the Look is
// complete, with the marks of the configuration.
func (g *Gateway) Read(ctx context.Context, live Live) (Look, error) {
	s, err := g.snapshot(ctx)
	if err != nil {
		return Look{}, err
	}
	return g.compile(s, live)
}

func (g *Gateway) compile(s xfrm.Snapshot, have Live) (Look, error) {
	g.compiledOnce = true
	look := Look{Engine: g.engine.Name(), Accepts: g.programs != nil, Live: have, Snapshot: s, Set: xfrm.Tunnels(s), Config: g.config.Firewall, Warnings: slices.Concat(g.Notices(), have.Warnings)}
	marks, marksErr := chooseMarks(s, have.Rules, look.Config)
	look.Config.Marks = marks
	var warnings []string
	look.Peers, warnings = g.matchPeers(look.Set)
	look.Warnings = append(look.Warnings, warnings...)
	in := firewall.Input{
		Set: look.Set, Host: s.Host, Config: look.Config, Guards: guards(look.Config, have.Memory), Lines: have.Memory.Standing(), Peers: selecting(look.Peers),
	}
	// The table stands behind all NAT.
	if look.foreignMatters = !g.engine.TableDecides(); look.foreignMatters {
		in.NATSources = natSources(have.Rules)
	}
	look.input = in
	look.Result = g.compiler.Compile(in).Without(g.lacks, s.Host)
	look.Table = g.engine.Table(&look.Result.Facts)
	if w := g.withoutCompanion(have.Rules); w != "" {
		look.Warnings = append(look.Warnings, w)
	}
	return look, marksErr
}

// guards returns the configured guards and the remembered ones that have not expired.
func guards(c firewall.Config, remembered memory.Memory) []guard.Guard {
	all := slices.Clone(c.Guard.Pairs)
	for _, guard := range remembered.Guards {
		if guard.Expires > remembered.Now {
			all = append(all, guard)
		}
	}
	return all
}

// natSources returns the prefixes that the live rules of others map to.
func natSources(rules map[xfrm.Family]live.Tables) []netip.Prefix {
	if rules == nil {
		return nil
	}
	return live.NATSources(rules)
}
