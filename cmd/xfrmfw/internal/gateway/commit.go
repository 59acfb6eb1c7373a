package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/memory"
	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/text"
	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// recountLimit is how long the kernel may take to tell counters, a matter of
// milliseconds.
const recountLimit = 5 * time.Second

// Commit applies the change of a look. If retry is true the live rules have to be read
// and planned again, and the error is only the reason.
func (g *Gateway) Commit(ctx context.Context, l Look) (retry bool, err error) {
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
func (g *Gateway) Recount(ctx context.Context, change firewall.Change) error {
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
			counters, err = kernel.TableCounters(ctx, step.Family, string(step.Table), chains, firewall.CommentWords)
		} else {
			counters, err = kernel.LegacyCounters(step.Family, string(step.Table), firewall.CommentWords)
		}
		if err != nil {
			return err
		}
		now := make(map[string]firewall.Counter, len(counters))
		for _, c := range counters {
			if id, _, _, ok := firewall.ParseComment(c.Text); ok {
				now[id] = firewall.Counter{Packets: c.Packets, Bytes: c.Bytes}
			}
		}
		change.Steps[i] = step.Recount(now)
	}
	return nil
}

// ForgetFlows deletes the conntrack entries of flows that NAT rewrote before their tunnel
// had rules. The rules drop those flows in any case; without the entry a flow starts anew
// and goes into the tunnel. It is called between Commit and Applied, and returns
// warnings.
func (g *Gateway) ForgetFlows(l Look) []string {
	known := g.tracker.Tunnels()
	var pairs []kernel.Pair
	for _, guard := range l.Result.InForce() {
		if guard.Source == firewall.LiveGuard && !guard.Pierce && !known[guard.Tunnel] && guard.Local.Bits() > 0 {
			pairs = append(pairs, kernel.Pair{Local: guard.Local, Remote: guard.Remote})
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	if _, err := kernel.ForgetRewritten(pairs); err != nil {
		return []string{fmt.Sprintf("%v: flows that were NATed before their tunnel came up stay cut until they end", err)}
	}
	return nil
}

// Remember brings the memory and the records of the updown hook up to date with a look,
// and returns the memory as it is then. Failures are warnings, because rules without a
// memory are better than old rules. The caller holds the lock.
func (g *Gateway) Remember(l Look) (remembered []firewall.Guard, warnings []string) {
	remembered, warnings = g.saveMemory(l)
	if g.peers == nil {
		return remembered, warnings
	}
	if err := g.peers.Sweep(l.Peers.Stale); err != nil {
		warnings = append(warnings, err.Error())
	}
	return remembered, warnings
}

func (g *Gateway) saveMemory(l Look) (remembered []firewall.Guard, warnings []string) {
	if l.Config.Guard.Forget {
		return nil, nil
	}
	fresh, refused := firewall.Remember(l.Live.Memory, l.Result.InForce(), l.Set, l.Snapshot.Host, l.Config.Guard, time.Now().Unix())
	if refused > 0 {
		warnings = append(warnings, fmt.Sprintf("the memory has no room for %s: name them under guard: pairs:", text.Count(refused, "pair")))
	}
	if !memory.Changed(l.Live.Memory, fresh) {
		return l.Live.Memory, warnings
	}
	if err := g.memory.Save(fresh); err != nil {
		return l.Live.Memory, append(warnings, fmt.Sprintf("%v: guarded pairs will be forgotten with their policies", err))
	}
	return fresh, warnings
}
