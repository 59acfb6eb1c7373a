package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/firewall/rules/plan"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Standing says which of our rules are in force after an apply that failed.
type Standing uint8

// The rules that can be in force. Only rules that were read back from the kernel are called Former.
const (
	// Unknown means that the live rules could not be read again.
	Unknown Standing = iota
	// Former means that our rules are those from before.
	Former
	// Mixed means that they are not: some tables are new, or another program has changed
	// them too.
	Mixed
)

// An ApplyError is a change that was not made, or not wholly.
type ApplyError struct {
	Standing Standing
	// Done are the tables that were changed and could not be changed back.
	Done []string
	// Err is why the change failed, Rollback why the way back did.
	Err, Rollback error
}

// Error names the failure and the rules in force now.
func (e *ApplyError) Error() string {
	s := "apply: " + e.Err.Error()
	switch e.Standing {
	case Former:
		return s + "; the former rules are in force"
	case Mixed:
		if len(e.Done) == 0 {
			s += "; none of this change stands, but the rules are not the former ones either: look at \"xfrmfw check\""
			break
		}
		s += fmt.Sprintf("; new rules stand in %s, former ones elsewhere: run \"xfrmfw apply\" again", join(e.Done))
	default:
		s += "; the live rules could not be read: look at \"xfrmfw check\""
	}
	if e.Rollback != nil {
		s += ": " + e.Rollback.Error()
	}
	return s
}

// Unwrap returns Err and Rollback.
func (e *ApplyError) Unwrap() []error {
	if e.Rollback == nil {
		return []error{e.Err}
	}
	return []error{e.Err, e.Rollback}
}

// place is one table of one family, the unit of a commit.
type place struct {
	family xfrm.Family
	table  rules.Table
}

// String names the place as users do.
func (p place) String() string { return fmt.Sprintf("%s (%s)", p.table, p.family) }

// Apply runs the steps of a change. If one fails, those before it are rolled
// back, and the error is an *ApplyError that names the rules in force. errors.Is(err,
// ErrChanged) says that reading, planning and applying once more may help.
//
// Two of us at once would each undo the other, so the caller holds a lock from
// reading the live rules until Apply returns.
func (p *Programs) Apply(ctx context.Context, change plan.Change) error {
	done := make(map[place]bool)
	for _, step := range change.Steps {
		err := p.Restore(ctx, step.Family, step.Text, step.Counters)
		if err == nil {
			done[place{step.Family, step.Table}] = true
			continue
		}
		if errors.Is(err, errKilled) {
			done[place{step.Family, step.Table}] = true
		}
		// The caller's time may be over, and the way back needs its own.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*p.options.Timeout)
		defer cancel()
		tried := maps.Clone(done)
		tried[place{step.Family, step.Table}] = true
		return p.rollback(ctx, change, done, tried, err)
	}
	return nil
}

// Undo brings the rules back that were there before a change that Apply made, because of
// a later failure. The error is an *ApplyError with that cause, which names the rules in
// force. The caller holds the lock still.
func (p *Programs) Undo(ctx context.Context, change plan.Change, cause error) error {
	done := make(map[place]bool)
	for _, step := range change.Steps {
		done[place{step.Family, step.Table}] = true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*p.options.Timeout)
	defer cancel()
	return p.rollback(ctx, change, done, done, cause)
}

// rollback brings the changed tables back to their former rules, and looks at those that
// were tried too.
func (p *Programs) rollback(ctx context.Context, change plan.Change, done, tried map[place]bool, cause error) *ApplyError {
	e := &ApplyError{Err: cause}
	back, err := p.wayBack(ctx, change.Former(), done)
	if err != nil {
		e.Rollback = err
		return e
	}
	for _, step := range back.Steps {
		if err := p.Restore(ctx, step.Family, step.Text, step.Counters); err != nil {
			e.Rollback = err
			break
		}
	}
	left, err := p.wayBack(ctx, change.Former(), tried)
	if err != nil {
		e.Rollback = errors.Join(e.Rollback, err)
		return e
	}
	e.Standing = Former
	for _, step := range left.Steps {
		e.Standing = Mixed
		if at := (place{step.Family, step.Table}); done[at] {
			e.Done = append(e.Done, at.String())
		}
	}
	return e
}

// wayBack reads the live rules again and plans the way back in those places.
func (p *Programs) wayBack(ctx context.Context, former map[xfrm.Family]live.Tables, places map[place]bool) (plan.Change, error) {
	now := make(map[xfrm.Family]live.Tables)
	for at := range places {
		if _, ok := now[at.family]; ok {
			continue
		}
		save, err := p.Save(ctx, at.family)
		if err != nil {
			return plan.Change{}, err
		}
		now[at.family] = save
	}
	back, err := plan.Rollback(former, now)
	back.Steps = slices.DeleteFunc(back.Steps, func(s plan.Step) bool { return !places[place{s.Family, s.Table}] })
	return back, err
}

func join(names []string) string {
	s := ""
	for i, n := range names {
		switch {
		case i == 0:
		case i == len(names)-1:
			s += " and "
		default:
			s += ", "
		}
		s += n
	}
	return s
}
