package status

import (
	"cmp"
	"fmt"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/engine"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/rules/compile"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Input is the input of a report.
type Input struct {
	// Snapshot gives the time to which ages refer.
	Snapshot xfrm.Snapshot
	Set      xfrm.Set
	Marks    firewall.Marks
	Result   compile.Result
	// Live are the saves of all families. Nil stands for a snapshot without
	// live rules: the compiled ones are then shown, without counters.
	Live map[xfrm.Family]live.Tables
	// Rules are those of Live, where they were collected already.
	Rules *Rules
	// Engine is the one that the rules were compared with, and Table its table of nftables,
	// the live one unless a snapshot replaces the kernel.
	Engine string
	Table  sets.Table
	// Terse leaves out the text of the table's elements.
	Terse bool
	// Stands is the other engine, if its rules are in force.
	Stands engine.Name
	// Differences are plan.Make's, one line each.
	Differences []string
	// Variant is "nft" or "legacy", empty for a snapshot.
	Variant string
	// Warnings come before those of the Result.
	Warnings []string
	Daemon   Daemon
	// MemoryAhead is how many seconds the wall clock is ahead of the memory's own.
	MemoryAhead int64
	// Lines are the remembered ones that have not expired.
	Lines []guard.Line
	// Pending is true if rules of apply --confirm wait for their confirmation.
	Pending bool
	// Peers are the hook's records by tunnel ID.
	Peers map[string]Peer
}

// Peer is the hook's record of a tunnel's peer. Much of it was
// chosen by the peer.
type Peer struct {
	Connection string
	PeerID     string
	User       string
	VirtualIPs []string
}

// Build makes the report. It is pure, and its cost is linear in the number of
// tunnels, states and rules.
func Build(in Input) Report {
	r := Report{
		Schema:      Schema,
		Time:        moment(in.Snapshot.Time),
		Engine:      in.Engine,
		Variant:     text.OrNull(in.Variant),
		Marks:       Marks{Tag: in.Marks.Tag, Verified: in.Marks.Verified},
		Daemon:      in.Daemon,
		Tunnels:     make([]Tunnel, len(in.Set.Tunnels)),
		Guards:      guardsOf(in.Result.InForce(), in.MemoryAhead),
		Lines:       linesOf(in.Lines, in.MemoryAhead),
		Pending:     in.Pending,
		Ignored:     list(in.Set.Ignored, in.Result.Ignored),
		Differences: list(in.Differences),
		Warnings:    list(in.Warnings, in.Result.Warnings),
		total:       len(in.Set.Tunnels),
		stands:      in.Stands,
	}
	if in.Snapshot.Time != 0 {
		r.at = time.Unix(in.Snapshot.Time, 0)
	}
	if in.Live != nil {
		r.InSync = InSync
		if len(in.Differences) > 0 {
			r.InSync = OutOfSync
		}
	}
	rules := in.rules().withTable(in.Table, &in.Result.Facts, in.Terse)
	r.unloaded = in.Live != nil && len(rules.all) == 0 && len(in.Differences) > 0
	for i := range rules.all {
		r.count(&rules.all[i])
	}
	tunnels := make(map[string]bool, len(in.Set.Tunnels))
	for i, t := range in.Set.Tunnels {
		r.Tunnels[i], tunnels[t.ID] = tunnel(t, in.Peers[t.ID]), true
		shown := &r.Tunnels[i]
		if own := rules.of(t.ID); len(own) > 0 {
			shown.Rules = own
		}
		for j := range shown.Rules {
			shown.PacketsBy.count(&shown.Rules[j])
		}
	}
	r.SharedRules = rules.others(tunnels)
	shared := indexShared(in.Result.Rulesets, r.SharedRules)
	for i, t := range in.Set.Tunnels {
		var report firewall.TunnelReport
		if i < len(in.Result.Tunnels) {
			report = in.Result.Tunnels[i]
		}
		r.Tunnels[i].judge(report)
		r.Tunnels[i].states(t, report, shared, in.Snapshot.Time)
		r.Tunnels[i].GuardedBy = shared.guarding(t)
	}
	return r
}

func (in Input) rules() Rules {
	switch {
	case in.Rules != nil:
		return *in.Rules
	case in.Live != nil:
		return Collect(in.Live, false)
	}
	return compiled(in.Result.Rulesets)
}

// list joins lists to one that is never nil, and so never null in JSON.
func list[T any](parts ...[]T) []T {
	all := []T{}
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

// tunnel fills in the data of the kernel and the hook.
func tunnel(t xfrm.Tunnel, peer Peer) Tunnel {
	out := Tunnel{
		ID:         t.ID,
		Connection: peer.Connection,
		PeerID:     peer.PeerID,
		User:       peer.User,
		VirtualIPs: list(peer.VirtualIPs),
		State:      Down,
		Reqid:      t.Reqid,
		Mode:       t.Mode.String(),
		IfID:       t.IfID,
		Selectors:  make([]Selector, len(t.Pairs)),
		SAs:        make([]SA, len(t.SAs)),
		Rules:      []Rule{},
	}
	if t.Up() {
		out.State = Up
	}
	if t.Local.IsValid() && !t.Local.IsUnspecified() {
		out.Local = t.Local.String()
	}
	if t.Remote.IsValid() && !t.Remote.IsUnspecified() {
		out.Remote = t.Remote.String()
	}
	for i, p := range t.Pairs {
		out.Selectors[i] = Selector{
			Local: p.Local.String(), Remote: p.Remote.String(), Proto: p.Proto.String(),
			LocalPort: p.LocalPort.String(), RemotePort: p.RemotePort.String(),
		}
		if out.Mark == "" && !p.Mark.IsZero() {
			out.Mark = p.Mark.String()
		}
	}
	return out
}

// judge fills in the findings of the compiler.
func (t *Tunnel) judge(report firewall.TunnelReport) {
	t.Configured = report.Name != ""
	t.Name, t.Evidence, t.Reason = cmp.Or(report.Name, t.Connection), report.Evidence, report.Reason
	if t.Evidence == "" {
		t.Evidence = firewall.NoEvidence
	}
}

// states fills in the SAs.
func (t *Tunnel) states(of xfrm.Tunnel, report firewall.TunnelReport, shared shared, now int64) {
	for i, sa := range of.SAs {
		s := &t.SAs[i]
		*s = SA{
			SPI: fmt.Sprintf("0x%08x", sa.SPI), Dir: "out", Proto: sa.Proto.String(), Encap: encap(sa.Encap),
			Bytes: sa.Bytes, Packets: sa.Packets, AgeSeconds: age(sa.AddTime, now), Evidence: firewall.NoEvidence,
		}
		if sa.Inbound {
			s.Dir = "in"
		}
		if i < len(report.SAs) {
			s.Evidence, s.Reason = report.SAs[i].Evidence, report.SAs[i].Reason
		}
		s.Rules = shared.serving(t.Rules, of, sa, report.Devices)
	}
}

// age is how long ago a state was added; 0 where either time is not known.
func age(added uint64, now int64) int64 {
	if added == 0 || now <= 0 || added > uint64(now) {
		return 0
	}
	return now - int64(added)
}

func encap(e xfrm.Encap) string {
	word := "udp"
	switch e.Type {
	case 0:
		return ""
	case espInTCP:
		word = "tcp"
	}
	return fmt.Sprintf("%s %d %d", word, e.SPort, e.DPort)
}

const espInTCP = 7 // TCP_ENCAP_ESPINTCP

// guardsOf lists the guarded pairs; exceptions are left out. Times of the memory's
// clock become those of the wall clock.
func guardsOf(all []guard.Guard, ahead int64) []Guard {
	out := make([]Guard, 0, len(all))
	seen := make(map[Guard]bool, len(all))
	for _, g := range all {
		if g.Source == guard.FromMemory {
			g.Since, g.Expires = max(g.Since+ahead, 0), g.Expires+ahead
		}
		shown := Guard{
			Local: g.Local.String(), Remote: g.Remote.String(), Source: string(g.Source),
			Since: moment(g.Since), Expires: moment(g.Expires),
		}
		if !g.Exception && !seen[shown] {
			seen[shown] = true
			out = append(out, shown)
		}
	}
	return out
}

func linesOf(lines []guard.Line, ahead int64) []Line {
	out := make([]Line, len(lines))
	for i, l := range lines {
		out[i] = Line{Network: l.Network.String(), Interface: l.Device, Expires: moment(l.Expires + ahead)}
	}
	return out
}

// moment renders seconds since the epoch; 0 is not known, or never.
func moment(seconds int64) string {
	if seconds == 0 {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}
