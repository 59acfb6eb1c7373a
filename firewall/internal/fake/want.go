package fake

import (
	"fmt"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
)

// Differs lists the differences between live rules of ours and the wanted ones, judged
// without the help of Plan; empty if there are none.
func Differs(want rules.Ruleset, have live.Tables) string {
	type where struct{ table, chain string }
	wanted := make(map[where][]string)
	for _, c := range want.Chains {
		ids := []string{}
		for _, r := range c.Rules.All() {
			ids = append(ids, rules.ID(want.Family, c.Table, c.Name, r))
		}
		wanted[where{string(c.Table), c.Name}] = ids
	}
	hooks := make(map[where]string)
	for _, h := range want.Hooks {
		hooks[where{string(h.Table), h.From}] = h.To
	}
	for _, t := range have.Tables {
		for _, c := range t.Chains {
			at := where{string(t.Name), c.Name}
			if c.Ours() {
				var ids []string
				for _, r := range c.Rules {
					ids = append(ids, r.ID)
				}
				if ids2, ok := wanted[at]; !ok || !slices.Equal(ids, ids2) {
					return fmt.Sprintf("chain %v has %v, wanted %v", at, ids, ids2)
				}
				delete(wanted, at)
				continue
			}
			var jumps []string
			for i, r := range c.Rules {
				if r.Jump() {
					jumps = append(jumps, fmt.Sprint(i, r.Target))
				}
			}
			var first []string
			if to, ok := hooks[at]; ok {
				first = []string{fmt.Sprint(0, to)}
			}
			if !slices.Equal(jumps, first) {
				return fmt.Sprintf("chain %v has the jumps %v, wanted %v", at, jumps, first)
			}
			delete(hooks, at)
		}
	}
	if len(wanted)+len(hooks) > 0 {
		return fmt.Sprintf("missing: chains %v, hooks %v", wanted, hooks)
	}
	return ""
}

// Foreign lists all that is not ours, with counters, but builtin chains that
// accept: they come into being with their table.
func Foreign(s live.Tables) []string {
	list := []string{}
	for _, t := range s.Tables {
		for _, c := range t.Chains {
			if c.Ours() {
				continue
			}
			if c.Policy != "ACCEPT" {
				list = append(list, fmt.Sprintf("%s :%s %s", t.Name, c.Name, c.Policy))
			}
			for _, r := range c.Rules {
				if !r.Jump() {
					list = append(list, fmt.Sprintf("%s [%d:%d] -A %s %s", t.Name, r.Packets, r.Bytes, c.Name, r.Raw))
				}
			}
		}
	}
	return list
}
