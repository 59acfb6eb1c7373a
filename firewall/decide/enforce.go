package decide

import (
	"fmt"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
)

// enforcement decides whether packets without TAG are dropped, and marks the
// claims of which that holds.
func (d *decider) enforcement() {
	if !d.Config.Enforce {
		return
	}
	d.facts.Unenforceable = d.obstacles()
	d.facts.Enforce = len(d.facts.Unenforceable) == 0
	if !d.facts.Enforce {
		d.facts.Warnings = append(d.facts.Warnings, "cross_check: enforce is not in force, as under observe: "+few(d.facts.Unenforceable))
		return
	}
	for i := range d.facts.Claims {
		c := &d.facts.Claims[i]
		c.Enforced = !c.Untaggable
	}
	for i := range d.facts.IPComp {
		c := &d.facts.IPComp[i]
		c.Enforced = !c.Untaggable
	}
	for i := range d.facts.Overlays {
		o := &d.facts.Overlays[i]
		o.Enforced = !o.Untaggable
	}
}

// obstacles returns the good reasons for packets to lack TAG, one for each tunnel that is
// up and has one. A tunnel that is down is no obstacle, because its evidence shows when
// it has SAs.
func (d *decider) obstacles() []string {
	var found []string
	for i := range d.Set.Tunnels {
		t, r := &d.Set.Tunnels[i], &d.facts.Tunnels[i]
		if r.Evidence != firewall.PolicyOnly {
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

// few joins the first three sentences and gives the number of the others.
func few(list []string) string {
	const shown = 3
	if len(list) <= shown {
		return strings.Join(list, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(list[:shown], "; "), len(list)-shown)
}
