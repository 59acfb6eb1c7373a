package firewall

import (
	"fmt"
	"strings"
)

// chainUnconfirmed is where case 3 is logged and decided: let pass, or dropped
// under Config.Enforce.
const chainUnconfirmed = "XFRMFW-UNCONFIRMED"

// obstacles says of each tunnel that is up and whose packets may lack the tag
// for a good reason why that is so. A tunnel that is down is no obstacle: what
// its states will meet shows when they are there.
func (c *compiler) obstacles() []string {
	var found []string
	for i, t := range c.Set.Tunnels {
		r := c.result.Tunnels[i]
		if r.Evidence != PolicyOnly {
			continue
		}
		name := t.ID
		if r.Name != "" {
			name = r.Name + " (" + t.ID + ")"
		}
		found = append(found, fmt.Sprintf("tunnel %s: %s", name, r.Reason))
	}
	return found
}

// enforcement decides whether case 3 is dropped.
func (c *compiler) enforcement() {
	if !c.Config.Enforce {
		return
	}
	c.result.Unenforceable = c.obstacles()
	c.enforce = len(c.result.Unenforceable) == 0
	if !c.enforce {
		c.result.Warnings = append(c.result.Warnings, "cross_check: enforce is not in force, as under observe: "+few(c.result.Unenforceable))
	}
}

// few joins the first three sentences and gives the number of the others.
func few(list []string) string {
	const shown = 3
	if len(list) <= shown {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:shown], "; "), len(list)-shown)
}

// enforced reports whether a tunnel's packets without TAG are dropped.
func (b *builder) enforced(tunnel int) bool {
	return b.enforce && b.untaggedPurpose(tunnel) == PurposeUnconfirmed
}

// untagged completes the rule for a tunnel's packets without TAG: cases 2 and 3.
func (b *builder) untagged(tunnel int, r Rule) Rule {
	r.Mark, r.Target, r.Purpose = lacks(b.Config.Marks.Tag), b.markVerified(), b.untaggedPurpose(tunnel)
	if r.Purpose == PurposeUnconfirmed {
		r.Target = Target{Verb: Jump, Chain: chainUnconfirmed}
	}
	if b.enforced(tunnel) {
		r.Target.Verb, r.Purpose = Goto, PurposeUnconfirmedGuard
	}
	return r
}

// confirmed adds to a rule that verifies on the policy match that TAG is needed
// too, where case 3 is dropped.
func (b *builder) confirmed(tunnel int, r Rule) Rule {
	if b.enforced(tunnel) {
		r.Mark = has(b.Config.Marks.Tag)
	}
	return r
}

// unconfirmed builds the chain that decides case 3.
func (b *builder) unconfirmed() {
	last := Rule{Target: b.markVerified(), Purpose: PurposeDone}
	if b.enforce {
		last = Rule{Target: Target{Verb: Drop}, Purpose: PurposeUnconfirmed}
	}
	b.chain(Mangle, chainUnconfirmed, append(b.logged(PurposeUnconfirmed), last)...)
}
