package tree

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/firewall/rules"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// maxMerged is how many entries are tried as one chain at most, in the hope that
// they are neighbours.
const maxMerged = 256

// mergeAdjacent replaces rules that differ only in neighbouring networks by one rule
// for the network that is both: sites are mostly numbered one after the other, and one
// gateway's guards are alike for all of them. Merged rules lead to one chain, and no
// other rule stands between them that concerns their networks, so a packet gets there
// if any of them matches, whichever it is. The union covers exactly the networks that
// were there. A merged rule names its tunnel only if all have that tunnel.
//
// A rule for networks past those of the run may as well stand before the run, as the
// own rule of an owner does before that of the next one.
func (t *tree) mergeAdjacent(list []rules.Rule) []rules.Rule {
	out, run := make([]rules.Rule, 0, len(list)), make([]rules.Rule, 0, len(list))
	var end netip.Addr // of all networks of the run
	flush := func() {
		out = append(out, t.mergeRun(run)...)
		run = run[:0]
	}
	for i := range list {
		r := &list[i]
		network := *t.By.Field(r)
		past := len(run) > 0 && network.IsValid() && end.Less(network.Addr())
		switch {
		case t.mergeable(r):
			if len(run) > 0 && run[0].Target != r.Target {
				flush()
			}
			if at := prefix.Last(network); len(run) == 0 || end.Less(at) {
				end = at
			}
			run = append(run, *r)
		case past:
			out = append(out, *r)
		default:
			flush()
			out = append(out, *r)
		}
	}
	flush()
	return out
}

func (t *tree) mergeable(r *rules.Rule) bool {
	return t.Merge != nil && t.Merge(r) && t.By.Field(r).IsValid()
}

// mergeRun merges the rules of a run, kind by kind.
func (t *tree) mergeRun(run []rules.Rule) []rules.Rule {
	if len(run) < 2 {
		return run
	}
	type kind struct {
		rest     rules.Rule
		networks []tunnelNetwork
	}
	var kinds []kind
	for i := range run {
		rest := run[i]
		n := tunnelNetwork{*t.By.Field(&rest), rest.Tunnel, rest.Case}
		*t.By.Field(&rest), rest.Tunnel, rest.Case = netip.Prefix{}, "", firewall.NoCase
		at := slices.IndexFunc(kinds, func(k kind) bool { return k.rest == rest })
		if at < 0 {
			if len(kinds) == leafSize {
				return run // so many kinds of rules are no row of sites
			}
			at = len(kinds)
			kinds = append(kinds, kind{rest: rest})
		}
		kinds[at].networks = append(kinds[at].networks, n)
	}
	var out []rules.Rule
	for _, k := range kinds {
		for _, n := range mergeNetworks(k.networks) {
			r := k.rest
			*t.By.Field(&r), r.Tunnel, r.Case = n.prefix, n.tunnel, n.decides
			out = append(out, r)
		}
	}
	return out
}

// tunnelNetwork is the network of a rule, with its tunnel and its case: none if several
// have it.
type tunnelNetwork struct {
	prefix  netip.Prefix
	tunnel  string
	decides firewall.Case
}

// mergeNetworks sorts networks and joins the halves of each other.
func mergeNetworks(list []tunnelNetwork) []tunnelNetwork {
	slices.SortStableFunc(list, func(a, b tunnelNetwork) int { return xfrm.ComparePrefix(a.prefix, b.prefix) })
	out := list[:0]
	for _, n := range list {
		for len(out) > 0 {
			last := out[len(out)-1]
			whole, ok := prefix.Join(last.prefix, n.prefix)
			if !ok {
				break
			}
			if n.prefix = whole; last.tunnel != n.tunnel {
				n.tunnel = ""
			}
			if last.decides != n.decides {
				n.decides = firewall.NoCase
			}
			out = out[:len(out)-1]
		}
		out = append(out, n)
	}
	return out
}

// mergedIfFew returns the merged rules of entries that need not be parted, because
// they are a row of neighbours that few rules are left of.
func (t *tree) mergedIfFew(members []int) ([]rules.Rule, bool) {
	if t.Merge == nil || len(members) > maxMerged || len(members) < 2 {
		return nil, false
	}
	first := t.entries[members[0]].Rules
	if len(first) == 0 || !t.mergeable(&first[0]) {
		return nil, false
	}
	list := make([]tunnelNetwork, 0, len(members))
	for _, at := range members {
		list = append(list, tunnelNetwork{prefix: t.entries[at].Key})
	}
	if len(mergeNetworks(list)) > t.leaf() {
		return nil, false
	}
	rules := t.rulesOf(members)
	return rules, len(rules) <= t.leaf()
}
