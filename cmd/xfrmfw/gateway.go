package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/config"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/memory"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/peers"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// gateway is the host that is worked on: it wires the kernel's states and
// policies to its iptables programs.
type gateway struct {
	config   firewall.Config
	programs *iptables.Programs
	reader   kernel.Reader
	// file is the snapshot that stands in for the kernel, if any.
	file  string
	store memory.Store
	// memory is what is guarded beyond its policies, as the store had it.
	memory []firewall.Guard
	// live are the rules as they were read last, nil if they were not.
	live map[xfrm.Family]firewall.Save
	// peers are the records of the updown hook, nil with a snapshot file.
	peers *peers.Store
	// natSources are what the live rules of others map to.
	natSources []netip.Prefix
	// warnings are for the user, besides those of the compiler.
	warnings []string
}

// wanted is one reading of the kernel and what follows from it.
type wanted struct {
	snapshot xfrm.Snapshot
	set      xfrm.Set
	peers    peers.Found
	result   firewall.Result
}

// openGateway reads the configuration first, so that a bad one stops everything
// before anything is looked at. With a snapshot file no program is needed.
func openGateway(ctx context.Context, o *options, file string) (*gateway, error) {
	c, err := config.Load(o.config, o.explicit)
	if err != nil {
		return nil, err
	}
	variant := iptables.Variant(o.variant)
	if variant != "" && variant != iptables.NFT && variant != iptables.Legacy {
		return nil, usageError(fmt.Sprintf("--variant %s: want nft or legacy", o.variant))
	}
	g := &gateway{config: c.Firewall, file: file, store: memory.In(o.stateDir)}
	if file != "" {
		return g, nil
	}
	if g.peers, err = openPeers(o); err != nil {
		return nil, err
	}
	families := []xfrm.Family{xfrm.IPv4, xfrm.IPv6}
	if kernel.NoIPv6() {
		families = families[:1]
	}
	g.programs, err = iptables.Find(ctx, iptables.Options{Variant: variant, Families: families})
	if err != nil {
		return nil, fmt.Errorf("find iptables: %w", err)
	}
	return g, nil
}

// want reads the kernel, or the snapshot file, and compiles.
func (g *gateway) want(ctx context.Context) (wanted, error) {
	var w wanted
	var err error
	if g.file != "" {
		w.snapshot, err = readSnapshotFile(g.file)
	} else {
		w.snapshot, err = g.reader.Read(ctx)
	}
	if err != nil {
		return wanted{}, err
	}
	if err := g.chooseMarks(w.snapshot); err != nil {
		return wanted{}, err
	}
	w.set = xfrm.Tunnels(w.snapshot)
	w.peers = g.recognise(w.set)
	guards := slices.Clone(g.config.Guard.Pairs)
	now := time.Now().Unix()
	for _, remembered := range g.memory {
		if remembered.Expires > now {
			guards = append(guards, remembered)
		}
	}
	w.result = firewall.Compile(firewall.Input{
		Set: w.set, Host: w.snapshot.Host, Config: g.config, Guards: guards, NATSources: g.natSources,
		Peers:        selecting(w.peers),
		MarksWritten: len(firewall.ForeignMarks(g.live, g.config.Marks)) > 0,
	})
	return w, nil
}

// chooseMarks picks the bits where the configuration leaves it to us, and makes
// sure that no routing rule looks at them.
func (g *gateway) chooseMarks(s xfrm.Snapshot) error {
	if g.config.AutoMarks {
		marks, ok := firewall.FreeMarks(firewall.UsedMarks(s, g.live))
		if !ok {
			return errors.New("choose marks: no two bits of the fwmark are free: narrow the masks that others use, or name a pair by marks: {tag: ..., verified: ...}")
		}
		g.config.Marks = marks
	}
	if err := firewall.CheckMarks(s, g.live, g.config.Marks); err != nil {
		return fmt.Errorf("check marks: %w", err)
	}
	return nil
}

// markWarnings tell of rules of others that write our bits.
func (g *gateway) markWarnings() []string {
	var warnings []string
	for _, m := range firewall.ForeignMarks(g.live, g.config.Marks) {
		what := "clears our bits: traffic that it meets after our rules is no longer known as verified; narrow its mask"
		if m.Sets {
			what = "can set our bits: they are cleared again wherever the kernel knows of no state; narrow its mask"
		}
		warnings = append(warnings, m.String()+": "+what)
	}
	return warnings
}

// recall reads the memory. It is read at every look, under the caller's lock:
// another xfrmfw may have written it while we waited.
func (g *gateway) recall() error {
	if g.config.Guard.Forget || g.file != "" {
		return nil
	}
	held, warning, err := g.store.Load()
	if err != nil {
		return fmt.Errorf("%w: see its permissions, or name another directory with --state-dir", err)
	}
	if warning != "" {
		g.warnings = append(g.warnings, warning)
	}
	g.memory = held
	return nil
}

// remember brings the memory up to date with what was seen. That it can't be
// written is no reason to leave the rules as they are, but the user is told.
func (g *gateway) remember(w wanted) {
	if g.config.Guard.Forget {
		return
	}
	fresh, refused := firewall.Remember(g.memory, w.result.Guards, w.set, w.snapshot.Host, g.config.Guard, time.Now().Unix())
	if refused > 0 {
		g.warnings = append(g.warnings, fmt.Sprintf("the memory has no room for %s: name them under guard: pairs:", plural(refused, "pair")))
	}
	if !memory.Changed(g.memory, fresh) {
		return
	}
	if err := g.store.Save(fresh); err != nil {
		g.warnings = append(g.warnings, fmt.Sprintf("%v: guarded pairs will be forgotten with their policies", err))
		return
	}
	g.memory = fresh
}

// have reads the live rules; with a snapshot file none are taken to be there.
func (g *gateway) have(ctx context.Context) (map[xfrm.Family]firewall.Save, error) {
	if g.file != "" {
		return map[xfrm.Family]firewall.Save{xfrm.IPv4: {}, xfrm.IPv6: {}}, nil
	}
	have, err := g.programs.SaveAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("read live rules: %w", err)
	}
	return have, nil
}

// look reads the live rules and the kernel, and plans what leads from the one to
// what the other asks for. The rules come first: what others' NAT does to
// tunnel traffic is part of what is asked for.
func (g *gateway) look(ctx context.Context) (wanted, map[xfrm.Family]firewall.Save, firewall.Change, error) {
	have, err := g.have(ctx)
	if err != nil {
		return wanted{}, nil, firewall.Change{}, err
	}
	g.natSources, g.live = firewall.NATSources(have), have
	if err := g.recall(); err != nil {
		return wanted{}, nil, firewall.Change{}, err
	}
	w, err := g.want(ctx)
	if err != nil {
		return wanted{}, nil, firewall.Change{}, err
	}
	change, err := firewall.Plan(w.result.Rulesets, have)
	return w, have, change, err
}

// attempts bounds how often apply looks again, because the kernel or another
// program changed something meanwhile.
const attempts = 8

// outcome is what an apply came to.
type outcome struct {
	wanted wanted
	// counts adds up what was written; steps is how many restores ran.
	counts firewall.Counts
	steps  int
}

// reconcile makes the live rules those that the kernel's states and policies ask
// for, and looks again until nothing changed while it worked: a dump is no
// snapshot, and a rekey does not wait. The caller holds the lock.
func (g *gateway) reconcile(ctx context.Context) (outcome, error) {
	var out outcome
	var last error
	for range attempts {
		w, have, change, err := g.look(ctx)
		if err != nil {
			return out, err
		}
		out.wanted = w
		if !change.Empty() {
			last = g.programs.Apply(ctx, change)
			if errors.Is(last, iptables.ErrUnsupported) && g.config.Log.PerSecond > 0 && logs(last) {
				g.config.Log = firewall.LogConfig{}
				g.warnings = append(g.warnings, "this kernel can't log from iptables: drops are counted and not logged (set log: off)")
				continue
			}
			if errors.Is(last, iptables.ErrChanged) {
				continue
			}
			if last != nil {
				return out, fmt.Errorf("apply rules: %w", last)
			}
			out.add(change)
			g.forgetRewritten(w, have)
		}
		g.remember(w)
		g.sweep(w.peers)
		again, err := g.want(ctx)
		if err != nil {
			return out, fmt.Errorf("look again after the rules were written: %w", err)
		}
		if reflect.DeepEqual(again.result.Rulesets, w.result.Rulesets) {
			return out, nil
		}
	}
	if last != nil {
		return out, fmt.Errorf("apply rules: %w", last)
	}
	return out, errors.New("apply rules: the kernel's policies change faster than rules can be written; they follow its state of a moment ago: run xfrmfw apply again")
}

// logs reports whether a restore failed for a rule that logs.
func logs(err error) bool {
	var failed *iptables.RestoreError
	return errors.As(err, &failed) && (strings.Contains(failed.Text, " LOG ") || strings.Contains(failed.Text, " NFLOG "))
}

// forgetRewritten deletes the conntrack entries of flows that NAT took hold of
// before their tunnel had rules. The rules drop them in any case; without the
// entry the flow starts anew and goes into the tunnel.
func (g *gateway) forgetRewritten(w wanted, have map[xfrm.Family]firewall.Save) {
	known := firewall.TunnelsIn(have)
	var pairs []kernel.Pair
	for _, guard := range w.result.Guards {
		if guard.Source == firewall.LiveGuard && !guard.Pierce && !known[guard.Tunnel] && guard.Local.Bits() > 0 {
			pairs = append(pairs, kernel.Pair{Local: guard.Local, Remote: guard.Remote})
		}
	}
	if len(pairs) == 0 {
		return
	}
	if _, err := kernel.ForgetRewritten(pairs); err != nil {
		g.warnings = append(g.warnings, fmt.Sprintf("%v: flows that were NATed before their tunnel came up stay cut until they end", err))
	}
}

func (o *outcome) add(change firewall.Change) {
	o.steps += len(change.Steps)
	for _, s := range change.Steps {
		o.counts.Written += s.Counts.Written
		o.counts.Rules += s.Counts.Rules
		o.counts.Deleted += s.Counts.Deleted
		o.counts.Jumps += s.Counts.Jumps
	}
}

func readSnapshotFile(name string) (xfrm.Snapshot, error) {
	f, err := os.Open(name)
	if err != nil {
		return xfrm.Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	defer func() { _ = f.Close() }()
	s, err := xfrm.ReadJSON(f)
	if err != nil {
		return xfrm.Snapshot{}, fmt.Errorf("read snapshot %s: %w", name, err)
	}
	return s, nil
}
