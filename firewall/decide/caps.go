package decide

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// cappedSet is the set with the pairs as they may be claimed.
func (d *decider) cappedSet() xfrm.Set {
	set := d.Set
	if !slices.ContainsFunc(d.Config.Tunnels, func(tc firewall.TunnelConfig) bool { return tc.Remote != nil }) {
		return set
	}
	set.Tunnels = slices.Clone(set.Tunnels)
	for i := range set.Tunnels {
		t := &set.Tunnels[i]
		tc, ok := d.config(t)
		if !ok || tc.Remote == nil {
			continue
		}
		var pairs []xfrm.Pair
		for _, p := range t.Pairs {
			for _, remote := range prefix.Intersect(p.Remote, tc.Remote) {
				p.Remote = remote
				pairs = append(pairs, p)
			}
		}
		set.Tunnels[i].Pairs = pairs
	}
	return set
}

// capped cuts the guards to the cap of their tunnel: a wider claim could
// cut this host off from any network.
func (d *decider) capped(guards []guard.Guard) []guard.Guard {
	caps := make(map[string][]netip.Prefix)
	for i := range d.Set.Tunnels {
		t := &d.Set.Tunnels[i]
		if tc, ok := d.config(t); ok && tc.Remote != nil {
			caps[t.ID] = tc.Remote
		}
	}
	if len(caps) == 0 {
		return guards
	}
	var kept []guard.Guard
	for _, g := range guards {
		for _, remote := range prefix.Intersect(g.Remote, caps[g.Tunnel]) {
			g.Remote = remote
			kept = append(kept, g)
		}
	}
	return kept
}
