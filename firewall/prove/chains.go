package prove

import (
	"fmt"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/foreign"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/firewall/rules/live"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Chains returns the base chains of other programs that may do more to packets of a family
// than drop them, but for those whose rules iptables-save prints.
func Chains(tables foreign.Ruleset, family xfrm.Family, saved live.Tables, m firewall.Marks) []live.Other {
	var list []live.Other
	asked := make(map[string]int32) // where VERIFIED is asked for last, by hook
	for _, t := range tables.Tables {
		for _, c := range t.Chains {
			hook, priority := placeOf(t, c)
			if hook == "" || t.Builtin(c) && saved.Has(rules.Table(t.Name)) {
				continue
			}
			if t.MayAskMark(m.Verified) {
				asked[hook] = max(asked[hook], priority)
			}
			e := t.Effect(c, family == xfrm.IPv6)
			o := live.Other{
				Hook: hook, Priority: priority, Writes: e.Writes & m.Both(), Sets: e.Sets & m.Both(),
				Stops: e.Ends, Rewrites: e.Rewrites && c.Type == "nat", Remakes: e.Remakes, Untracks: e.Untracks, Forwards: e.Forwards, Offloads: e.Offloads,
				Text: fmt.Sprintf("nftables table %s %s, chain %s (hook %s, priority %d)", t.Family, t.Name, c.Name, c.Hook, c.Priority),
			}
			if o.Stops || o.Writes != 0 || o.Rewrites || o.Remakes || o.Untracks || o.Forwards || o.Offloads {
				list = append(list, o)
			}
		}
	}
	for i := range list {
		list[i].Late = list[i].Priority > asked[list[i].Hook]
	}
	return list
}

// placeOf returns the hook of IP at which packets meet a chain, and its priority there: a
// bridge's come before all hooks or behind them. It is empty for chains that meet no packet of
// this host.
func placeOf(t foreign.Table, c foreign.Chain) (hook string, priority int32) {
	hook = strings.ToUpper(c.Hook)
	switch {
	case t.Family == "arp", t.Family == "bridge" && c.Hook == "forward":
		return "", 0
	case t.Family == "bridge" && (c.Hook == "prerouting" || c.Hook == "input"):
		hook = live.Ingress
	case t.Family == "bridge" && c.Hook != "":
		hook = live.Egress
	}
	return hook, int32(c.Priority)
}
