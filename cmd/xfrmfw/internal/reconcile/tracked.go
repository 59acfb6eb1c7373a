package reconcile

import (
	"context"
	"time"

	"github.com/xfrmfw/xfrmfw/cmd/xfrmfw/internal/gateway"
)

// rereadBelow is the cost of reading the live rules up to which they are read before a
// commit although they are known, where the kernel does not tell counters by themselves:
// the rules of a rewritten chain then carry on the counters of this moment, not those of
// the last audit.
const rereadBelow = 50 * time.Millisecond

// Tracked is the source of the daemon: its gateway knows the live rules from its own
// commits, and they are read only at first and after Lost. The kernel notifies of its
// changes, so it is not read again after a commit.
type Tracked struct {
	Gateway *gateway.Gateway
	// Drift, if set, is called with the changes that others made to the rules, before they
	// are repaired.
	Drift func([]string)

	// read is true if this attempt has read the rules, at readAt in the time of cost.
	read   bool
	readAt time.Time
	cost   time.Duration
}

// Live returns the memory and the foreign rules that are known, or reads all rules.
func (t *Tracked) Live(ctx context.Context) (gateway.Live, error) {
	if t.read = !t.Gateway.Known(); !t.read {
		return t.Gateway.KnownLive()
	}
	live, err := t.Gateway.ReadLive(ctx)
	if err == nil {
		t.readAt, t.cost = live.ReadAt, live.Cost
	}
	return live, err
}

// Confirm brings the counters up to date; where the kernel does not tell them, the rules
// are read again if that is cheap. It reports drift.
func (t *Tracked) Confirm(ctx context.Context, l gateway.Look) bool {
	if !t.read && t.Gateway.Recount(ctx, l.Change) != nil && t.cost < rereadBelow {
		return false
	}
	if t.Drift != nil && (t.read && l.Change.Drift || l.TableDrift) {
		t.Drift(l.Differences())
	}
	return true
}

// Lost has the rules read at the next attempt.
func (t *Tracked) Lost() { t.Gateway.Forget() }

// Done tracks the commit. There is no other attempt.
func (t *Tracked) Done(_ context.Context, l gateway.Look) (bool, error) {
	t.Gateway.Applied(l)
	return true, nil
}

// LastRead returns when the rules were read last, and how long that took.
func (t *Tracked) LastRead() (at time.Time, cost time.Duration) { return t.readAt, t.cost }
