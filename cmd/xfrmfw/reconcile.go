package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// attempts bounds how often apply looks again, because the kernel or another
// program changed something meanwhile.
const attempts = 8

// outcome is what an apply came to.
type outcome struct {
	wanted wanted
	// counts adds up what was written; steps is how many restores ran.
	counts firewall.Counts
	steps  int
	// families are those of the restores, in the order of the first restore of each.
	families []xfrm.Family
}

// reconcile makes the live rules those that the kernel's states and policies ask
// for, and looks again until nothing changed while it worked: a dump is no
// snapshot, and a rekey does not wait. The caller holds the lock.
func (g *gateway) reconcile(ctx context.Context) (outcome, error) {
	var out outcome
	var last error
	for range attempts {
		w, _, change, err := g.look(ctx)
		if err != nil {
			return out, err
		}
		out.wanted = w
		if why := w.result.Unenforceable; g.insist && len(why) > 0 {
			return out, fmt.Errorf("cross_check: enforce would drop what can't be tagged: %s: have the IKE daemon set the tag (set_mark_in), or write cross_check: observe", text.FirstOf(why))
		}
		if !change.Empty() {
			var again bool
			if again, last = g.commit(ctx, w, change); again {
				continue
			}
			if last != nil {
				return out, last
			}
			out.add(change)
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
		return out, last
	}
	return out, errors.New("apply rules: the kernel's policies change faster than rules can be written; they follow its state of a moment ago: run xfrmfw apply again")
}

// commit applies a change that was planned from the live rules. If it reports
// that the rules have to be read and planned again, the error only says why.
func (g *gateway) commit(ctx context.Context, w wanted, change firewall.Change) (again bool, err error) {
	err = g.programs.Apply(ctx, change)
	switch {
	case err == nil:
		g.forgetRewritten(w)
		return false, nil
	case errors.Is(err, iptables.ErrUnsupported) && g.config.Log.PerSecond > 0 && logs(err):
		g.config.Log = firewall.LogConfig{}
		g.warnings = append(g.warnings, "this kernel can't log from iptables: drops are counted and not logged (set log: off)")
		again = true
	case errors.Is(err, iptables.ErrChanged):
		again = true
	}
	return again, fmt.Errorf("apply rules: %w", err)
}

// logs reports whether a restore failed for a rule that logs.
func logs(err error) bool {
	var failed *iptables.RestoreError
	return errors.As(err, &failed) && (strings.Contains(failed.Text, " LOG ") || strings.Contains(failed.Text, " NFLOG "))
}

// forgetRewritten deletes the conntrack entries of flows that NAT took hold of
// before their tunnel had rules. The rules drop them in any case; without the
// entry the flow starts anew and goes into the tunnel.
func (g *gateway) forgetRewritten(w wanted) {
	known := g.tracker.Tunnels()
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
		if !slices.Contains(o.families, s.Family) {
			o.families = append(o.families, s.Family)
		}
	}
}
