package firewall

import (
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// mostJoined is how many entries are tried as one chain at most, in the hope
// that they are neighbours: one that changes has the rules of all made anew.
const mostJoined = 256

// joined puts rules that differ in nothing but neighbouring networks, and in the
// tunnel that they name, into one rule for the network that is both: sites are
// mostly numbered one after the other, and one gateway's guards say the same of
// each. It is done to rules that all lead to one chain and that no other rule
// stands between, so that a packet gets there if any of them matches, whichever
// it is and however often: neither guards nor the chains that they lead to leave
// anything on a packet. Just the networks that were there are covered, and
// nothing else. The rule names its tunnel only if it is that of both.
//
// What is for no network of theirs may as well stand before them, as an owner's
// own rule does before that of the next one.
func (d *dispatcher) joined(rules []Rule) []Rule {
	out, run := d.scratch.out.room(len(rules)), d.scratch.run.room(len(rules))
	var end netip.Addr // of all the run's networks
	flush := func() {
		out = append(out, d.join(run)...)
		run = run[:0]
	}
	for i := range rules {
		r := &rules[i]
		network := *d.at(r)
		past := len(run) > 0 && network.IsValid() && end.Less(network.Addr())
		switch {
		case d.joinable(r):
			if len(run) > 0 && run[0].Target != r.Target {
				flush()
			}
			if at := lastOf(network); len(run) == 0 || end.Less(at) {
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

// scratch is memory for lists of rules that are looked at once.
type scratch struct {
	rules, run, out ruleRoom
	networks        []network
	entries         []entry
	places          []int
}

type ruleRoom []Rule

// room returns an empty list that n rules fit in.
func (r *ruleRoom) room(n int) []Rule {
	if cap(*r) < n {
		*r = make([]Rule, 0, n)
	}
	return (*r)[:0]
}

// lastOf is the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().AsSlice()
	for i := range a {
		switch host := 8*(i+1) - p.Bits(); {
		case host >= 8:
			a[i] = 0xff
		case host > 0:
			a[i] |= 1<<host - 1
		}
	}
	last, _ := netip.AddrFromSlice(a)
	return last
}

// joinable reports whether a rule says nothing of a tunnel but which networks
// are guarded, or owned.
func (d *dispatcher) joinable(r *Rule) bool {
	switch r.Purpose {
	case PurposeSpoofGuard, PurposeInjectGuard, PurposeLeakGuard:
		return r.leads() && d.at(r).IsValid()
	}
	return r.Target.Chain == chainForeign && d.at(r).IsValid()
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

// join joins the rules of a run, of whichever kinds they are.
func (d *dispatcher) join(run []Rule) []Rule {
	if len(run) < 2 {
		return run
	}
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
	var out []Rule
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
	list := d.scratch.networks[:0]
	for _, at := range members {
		list = append(list, network{prefix: d.entries[at].key})
	}
	d.scratch.networks = list
	if len(joinNetworks(list)) > d.leaf() {
		return nil, false
	}
	rules := d.rulesOf(members)
	return rules, len(rules) <= d.leaf()
}
