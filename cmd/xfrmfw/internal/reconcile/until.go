package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/xfrmfw/xfrmfw/firewall/iptables"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Until reads the live rules, plans from them alone and commits, until the plan is to
// change nothing, as clear and the way back of apply --confirm do. The last change, with
// files that could not be removed, is that of the outcome's Look. The caller holds the lock.
func Until(ctx context.Context, programs *iptables.Programs, plan func(map[xfrm.Family]live.Tables) (plan.Change, error)) (Outcome, error) {
	var out Outcome
	for range attempts {
		rules, err := programs.SaveAll(ctx)
		if err != nil {
			return out, fmt.Errorf("read live rules: %w", err)
		}
		if out.Look.Change, err = plan(rules); err != nil || out.Look.Change.Empty() {
			return out, err
		}
		switch err := programs.Apply(ctx, out.Look.Change); {
		case errors.Is(err, iptables.ErrChanged):
		case err != nil:
			return out, err
		default:
			out.addRules(out.Look.Change)
		}
	}
	return out, errors.New("another program keeps changing the rules: stop it and try again")
}
