package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/config"
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
	file string
}

// wanted is one reading of the kernel and what follows from it.
type wanted struct {
	snapshot xfrm.Snapshot
	set      xfrm.Set
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
	g := &gateway{config: c, file: file}
	if file != "" {
		return g, nil
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
	w.set = xfrm.Tunnels(w.snapshot)
	w.result = firewall.Compile(firewall.Input{Set: w.set, Host: w.snapshot.Host, Config: g.config})
	return w, nil
}

// have reads the live rules; with a snapshot file none are taken to be there.
func (g *gateway) have(ctx context.Context) (map[xfrm.Family]firewall.Save, error) {
	if g.file != "" {
		return map[xfrm.Family]firewall.Save{xfrm.IPv4: {}, xfrm.IPv6: {}}, nil
	}
	return g.programs.SaveAll(ctx)
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
	w, err := g.want(ctx)
	if err != nil {
		return out, err
	}
	for range attempts {
		out.wanted = w
		have, err := g.have(ctx)
		if err != nil {
			return out, fmt.Errorf("read live rules: %w", err)
		}
		change, err := firewall.Plan(w.result.Rulesets, have)
		if err != nil {
			return out, err
		}
		last = nil
		if !change.Empty() {
			if err := g.programs.Apply(ctx, change); err != nil {
				if !errors.Is(err, iptables.ErrChanged) {
					return out, fmt.Errorf("apply rules: %w", err)
				}
				last = err
			} else {
				out.add(change)
			}
		}
		again, err := g.want(ctx)
		if err != nil {
			return out, fmt.Errorf("look again after the rules were written: %w", err)
		}
		if last == nil && reflect.DeepEqual(again.result.Rulesets, w.result.Rulesets) {
			return out, nil
		}
		w = again
	}
	if last != nil {
		return out, fmt.Errorf("apply rules: %w", last)
	}
	return out, errors.New("apply rules: the kernel's policies change faster than rules can be written; they follow its state of a moment ago: run xfrmfw apply again")
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
