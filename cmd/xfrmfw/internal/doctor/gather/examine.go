package gather

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
	"github.com/xfrmfw/xfrmfw/firewall/foreign"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
)

// Examine reads all that the findings are made from. A step that fails is a finding too,
// because a doctor that gives up on a broken host is of no use. The kernel's error
// counters are read twice, interval apart.
func Examine(ctx context.Context, o gateway.Options, daemon status.Daemon, interval time.Duration) (doctor.Input, error) {
	host := Host{Root: "/"}
	begin := time.Now()
	first, statErr := host.Counters()

	e := examination{Input: doctor.Input{IKE: host.IKE(), Stroke: host.Stroke(), Hooked: host.Hooked(), Variant: string(o.Variant), Daemon: daemon.Running, Distribution: host.Distribution()}}
	if daemon.LastError != "" {
		e.fail("the last reconcile, by "+cmp.Or(daemon.ReconciledBy, "xfrmfw"), errors.New(daemon.LastError), "xfrmfw apply    # says whether it fails still")
	}
	g, err := gateway.Open(ctx, o)
	var missing *iptables.NotFoundError
	if errors.As(err, &missing) {
		e.fail("look for the iptables programs", err, e.Distribution.ProgramCommand())
		g, err = gateway.OpenWithoutPrograms(o)
	}
	if err != nil {
		return e.Input, err
	}
	if p := g.Programs(); p != nil {
		e.Variant = string(p.Variant())
	}
	e.Modules, e.Capabilities = host.Modules(e.Variant), host.Capabilities(e.Variant)
	e.Denials, e.Saved = host.Denials(begin), host.Saved()
	e.Config, e.Engine = g.Config().Firewall, string(g.Engine().Name())
	e.gateway(ctx, g)
	if e.NFT, err = Tables(ctx, OfIP(), foreign.Table.IPTables); err != nil {
		e.minor("look at the tables of nftables", err, errors.Is(err, ErrNoNFT))
	}
	e.Sysctl = host.Sysctl(e.Snapshot.Host.Links)

	select {
	case <-ctx.Done():
		return e.Input, ctx.Err()
	case <-time.After(interval - time.Since(begin)):
	}
	second, err := host.Counters()
	if statErr = errors.Join(statErr, err); statErr != nil {
		// A kernel without CONFIG_XFRM_STATISTICS.
		e.minor("watch the error counters", statErr, true)
	}
	if e.Live != nil {
		if e.Later, err = g.Rules(ctx); err != nil {
			e.minor("read the rules again", err, false)
		}
	}
	if e.TableDrops[0] != nil {
		g.Forget() // counters grow without a new generation of the table
		if later, err := g.ReadTable(); err != nil {
			e.minor("read the table of nftables again", err, false)
		} else {
			e.TableDrops[1] = tableDrops(later.Table)
		}
	}
	e.Counters, e.Apart = [2]map[string]uint64{first, second}, time.Since(begin)
	return e.Input, nil
}

// examination collects the input and the steps that failed.
type examination struct{ doctor.Input }

func (e *examination) fail(step string, err error, remedy ...string) {
	e.Failures = append(e.Failures, doctor.Failure{What: step, Why: err.Error(), Mend: remedy})
}

func (e *examination) minor(step string, err error, minor bool) {
	e.Failures = append(e.Failures, doctor.Failure{What: step, Why: err.Error(), Minor: minor})
}

// gateway reads the rules of both variants, the memory and the kernel, and compares the
// live rules with the wanted ones.
func (e *examination) gateway(ctx context.Context, g *gateway.Gateway) {
	var live gateway.Live
	var err error
	if p := g.Programs(); p != nil {
		if live.Rules, err = g.Rules(ctx); err != nil {
			e.fail("read the rules", err)
		} else if rival, err := p.Other(ctx); err != nil {
			e.minor("look at the other iptables variant", err, true)
		} else {
			e.Other = doctor.Other{Variant: string(rival.Variant), Live: rival.Live}
		}
	}
	e.Live = live.Rules
	if live.Table, err = g.ReadTable(); err != nil {
		e.fail("read the table of nftables", err)
	}
	e.Exempt = program.Exempts(live.Table.Table)
	e.TableDrops[0] = tableDrops(live.Table.Table)
	live.Memory, live.Warnings = g.ReadMemory()
	for _, w := range live.Warnings {
		e.fail("read the memory", errors.New(w))
	}
	ahead := live.Memory.Ahead(time.Now())
	for _, guard := range live.Memory.Guards {
		guard.Since, guard.Expires = guard.Since+ahead, guard.Expires+ahead
		e.Memory = append(e.Memory, guard)
	}
	e.Notices = g.Notices()
	look, err := g.Read(ctx, live)
	// A routing rule that looks at our bits is a finding, and no reason to stop.
	var marks *gateway.MarksError
	if err != nil && !errors.As(err, &marks) {
		e.fail("read states and policies", err)
		return
	}
	e.Config, e.Snapshot, e.Set, e.Result = look.Config, look.Snapshot, look.Set, look.Result
	e.Excess = g.Excess(look)
	if err := g.PlanTable(&look); err != nil {
		e.fail("compare the table of nftables", err)
	}
	e.TableDifferences = look.TableDifferences()
	if e.Live == nil {
		return
	}
	change, err := plan.Make(look.Result.Rulesets, e.Live)
	if err == nil && !change.Empty() && g.AskFeatures(ctx) {
		if look, err = g.Read(ctx, live); err != nil && !errors.As(err, &marks) {
			e.fail("read states and policies", err)
			return
		}
		e.Result = look.Result
		change, err = plan.Make(look.Result.Rulesets, e.Live)
	}
	var unreadable *plan.UnreadableError
	if err != nil && !errors.As(err, &unreadable) {
		e.fail("compare the rules", err)
	}
	e.Differences = change.Differences
}
