package firewall

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// mostJoined is how many entries are tried as one chain at most, in the hope
// that they are neighbours: one that changes has the rules of all made anew.
const mostJoined = 512

// joined puts rules that differ in nothing but neighbouring networks, and in the
// tunnel that they name, into one rule for the network that is both: sites are
// mostly numbered one after the other, and one gateway's guards say the same of
// each. It is done to rules that all lead to one chain and stand next to each
// other, so that a packet gets there if any of them matches, whichever it is and
// however often: neither guards nor the chains that they lead to leave anything
// on a packet. Just the networks that were there are covered, and nothing else.
// The rule names its tunnel only if it is that of both.
func (d *dispatcher) joined(rules []Rule) []Rule {
	out := rules[:0:0]
	changed := false
	for i := 0; i < len(rules); {
		from := i
		for i++; i < len(rules) && rules[i].Target == rules[from].Target && d.joinable(&rules[i-1]) && d.joinable(&rules[i]); i++ {
		}
		run := rules[from:i]
		if len(run) > 1 {
			run = d.join(run)
			changed = changed || len(run) < i-from
		}
		out = append(out, run...)
	}
	if !changed {
		return rules
	}
	return out
}

// joinable reports whether a rule says nothing of a tunnel but which networks
// are guarded.
func (d *dispatcher) joinable(r *Rule) bool {
	switch r.Purpose {
	case PurposeSpoofGuard, PurposeInjectGuard, PurposeLeakGuard:
		return r.leads() && d.at(r).IsValid()
	}
	return false
}

// at is where a rule has the address by which the tree parts.
func (d *dispatcher) at(r *Rule) *netip.Prefix {
	switch d.by &^ rare {
	case byDestination:
		return &r.Dst
	case byOrigSrc:
		return &r.Ct.OrigSrc
	case byReplSrc:
		return &r.Ct.ReplSrc
	}
	return &r.Src
}

// join joins the rules of a run.
func (d *dispatcher) join(run []Rule) []Rule {
	type alike struct {
		rest     Rule
		networks []network
	}
	var kinds []alike
	for i := range run {
		rest := run[i]
		n := network{*d.at(&rest), rest.Tunnel}
		*d.at(&rest), rest.Tunnel = netip.Prefix{}, ""
		at := slices.IndexFunc(kinds, func(k alike) bool { return k.rest == rest })
		if at < 0 {
			if len(kinds) == leafSize {
				return run // so many kinds of rules are no row of sites
			}
			at = len(kinds)
			kinds = append(kinds, alike{rest: rest})
		}
		kinds[at].networks = append(kinds[at].networks, n)
	}
	out := make([]Rule, 0, len(run))
	for _, k := range kinds {
		for _, n := range joinNetworks(k.networks) {
			r := k.rest
			*d.at(&r), r.Tunnel = n.prefix, n.tunnel
			out = append(out, r)
		}
	}
	return out
}

// network is one that a rule is for, and the tunnel whose it is: empty if it is
// several tunnels'.
type network struct {
	prefix netip.Prefix
	tunnel string
}

// joinNetworks sorts networks and joins the halves of each other.
func joinNetworks(list []network) []network {
	slices.SortStableFunc(list, func(a, b network) int { return xfrm.ComparePrefix(a.prefix, b.prefix) })
	out := list[:0]
	for _, n := range list {
		for len(out) > 0 {
			last := out[len(out)-1]
			whole, ok := joinPrefixes(last.prefix, n.prefix)
			if !ok {
				break
			}
			if n.prefix = whole; last.tunnel != n.tunnel {
				n.tunnel = ""
			}
			out = out[:len(out)-1]
		}
		out = append(out, n)
	}
	return out
}

// joinPrefixes returns the network of which two are the halves. The whole address
// space is left in halves: a rule for all of it would name no network.
func joinPrefixes(a, b netip.Prefix) (netip.Prefix, bool) {
	if a.Bits() != b.Bits() || a.Bits() < 2 || a == b {
		return netip.Prefix{}, false
	}
	whole := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
	return whole, whole.Contains(b.Addr())
}

// row returns the rules of entries that need not be parted, as they are a row of
// neighbours that few rules are left of.
func (d *dispatcher) row(members []int) ([]Rule, bool) {
	if len(members) > mostJoined || len(members) < 2 {
		return nil, false
	}
	first := d.entries[members[0]].all()
	if len(first) == 0 || !d.joinable(&first[0]) {
		return nil, false
	}
	// Most rules need not be made to see that they are too many.
	list := make([]network, len(members))
	for i, at := range members {
		list[i].prefix = d.entries[at].key
	}
	if len(joinNetworks(list)) > d.leaf() {
		return nil, false
	}
	rules := d.rulesOf(members)
	return rules, len(rules) <= d.leaf()
}
