// Package gather reads a host and makes the report of status from it.
package gather

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/doctor/gather"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/peers"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/pending"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/rundir"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/status"
	"github.com/xfrmfw/xfrmfw/firewall/foreign"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	ruleslive "github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Report reads the kernel and the live rules and reports on both. A terse report lacks
// the text of the rules. With a snapshot the daemon is not reported on.
func Report(ctx context.Context, g *gateway.Gateway, daemon status.Daemon, terse bool) (status.Report, error) {
	defer g.Forget() // the rules are read for each report, and not held in between
	live, err := g.ReadLive(ctx)
	if err != nil {
		return status.Report{}, err
	}
	// With many tunnels these take long, so they run while the kernel is read.
	rules := make(chan status.Rules, 1)
	go func() { rules <- status.Collect(live.Rules, terse) }()
	rivals := make(chan []string, 1)
	if !g.FromSnapshot() {
		go func() { rivals <- rivalWarnings(ctx, g.Programs()) }()
	}
	look, err := g.Plan(ctx, live)
	if err != nil {
		return status.Report{}, err
	}
	in := status.Input{
		Snapshot: look.Snapshot, Set: look.Set, Marks: look.Config.Marks, Result: look.Result, Warnings: look.Warnings, Peers: shown(look.Peers),
		Engine: string(look.Engine), Table: look.Table, Terse: terse,
		MemoryAhead: live.Memory.Ahead(time.Now()), Lines: live.Memory.Standing(),
	}
	if g.FromSnapshot() {
		return status.Build(in), nil
	}
	collected := <-rules
	in.Pending = pending.Look(g.Dirs()).Pending
	in.Live, in.Table, in.Rules, in.Daemon = live.Rules, live.Table.Table, &collected, daemon
	if in.Live == nil { // a host without iptables
		in.Live = map[xfrm.Family]ruleslive.Tables{}
	}
	in.Differences, in.Stands = look.Differences(), look.Stands()
	if p := g.Programs(); p != nil {
		in.Variant = string(p.Variant())
	}
	in.Warnings = slices.Concat(in.Warnings, look.MarkWarnings(), g.MemoryWarnings(look), <-rivals)
	host, evident := gather.Host{Root: "/"}, doctor.Input{
		Snapshot: look.Snapshot, Set: look.Set, Config: look.Config, Result: look.Result, Live: live.Rules, Engine: string(look.Engine),
		Exempt: program.Exempts(live.Table.Table), Sysctl: gather.Host{Root: "/"}.Detours(look.Snapshot.Host.Links),
	}
	if host.HasFlowtables() || !evident.Exempt {
		// Without nft no table is read, and doctor says so.
		evident.NFT, _ = gather.Tables(ctx, gather.OfIP(), foreign.Table.IPTables)
	}
	in.Warnings = append(in.Warnings, doctor.Evident(evident)...)
	return status.Build(in), nil
}

// rivalWarnings are about rules of the other iptables variant, which the kernel runs too.
func rivalWarnings(ctx context.Context, programs *iptables.Programs) []string {
	if programs == nil {
		return nil
	}
	r, err := programs.Other(ctx)
	if err != nil {
		// The usual cause is programs without a kernel that supports them: the report is
		// complete without them.
		return []string{fmt.Sprintf("look at the other iptables variant: %v", err)}
	}
	var warnings []string
	if len(r.Chains) > 0 {
		warnings = append(warnings, fmt.Sprintf("iptables-%s holds rules of xfrmfw too: run xfrmfw clear --variant %s", r.Variant, r.Variant))
	}
	for _, m := range r.Marks {
		warnings = append(warnings, fmt.Sprintf("iptables-%s writes the packet mark as well: %s", r.Variant, m))
	}
	return warnings
}

// shown returns the records of the updown hook as the report has them, by tunnel ID.
func shown(found peers.Found) map[string]status.Peer {
	list := make(map[string]status.Peer, len(found.Peers))
	for id, p := range found.Peers {
		peer := status.Peer{Connection: p.Connection, PeerID: p.PeerID, User: p.User}
		for _, a := range p.VirtualIPs {
			peer.VirtualIPs = append(peer.VirtualIPs, a.String())
		}
		list[id] = peer
	}
	return list
}

// Daemon returns the state of the daemon, from the files of the run directory alone.
func Daemon(dirs rundir.Dirs) status.Daemon {
	pid, _ := dirs.DaemonPID()
	d := status.Daemon{Running: pid != 0}
	r, err := dirs.Record()
	if err != nil {
		d.LastError = err.Error()
		return d
	}
	d.ReconciledBy, d.LastError = r.By, r.Error
	if r.Reconciled > 0 {
		d.LastReconcile = time.Unix(r.Reconciled, 0).UTC().Format(time.RFC3339)
	}
	return d
}
