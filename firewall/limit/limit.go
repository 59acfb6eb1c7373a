// Package limit bounds the objects of the kernel that peers can make many of: pairs of
// selectors, policies without IPsec, and routes into tunnel devices. Beyond a limit an
// object has no rule, so the rules of all others hold and stay quick to change.
//
// The kernel's order of age chooses: the older object keeps its rules, and no peer's
// choice of selectors or addresses takes them away. Remembered and configured guards are
// outside of these limits, because the memory has its own.
package limit

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/xfrmfw/xfrmfw/firewall/device"
	"github.com/xfrmfw/xfrmfw/firewall/internal/prefix"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// The limits. The pairs are those of all tunnels with one outer address, of IPv6 with its
// /64, and of all with one network, /24 or /48. A pair counts once more for each connected
// network that its remote selector covers, because its guard spares each by a rule.
const (
	PairsByPeer    = 16384
	PairsByNetwork = 32768
	Pairs          = 65536
	// Exceptions are the bypass and block policies.
	Exceptions = 4096
	// RoutesByDevice are the routes into one tunnel device, of both families.
	RoutesByDevice = 4096
)

// Excess is a limit that was reached.
type Excess struct {
	// Object names the objects: "pairs of peer 203.0.113.7".
	Object string
	// Count is how many there are, Most the limit.
	Count, Most int
	// Effect is the consequence for those beyond the limit, Remedy the administrator's way
	// to end it.
	Effect, Remedy string
}

// counted stands between a line's object and its numbers.
const counted = ": there are "

// String is the line for a person.
func (e Excess) String() string {
	return fmt.Sprintf("%s"+counted+"%d, and room for %d: %s; %s", e.Object, e.Count, e.Most, e.Effect, e.Remedy)
}

// Subject returns the part of a warning that stays while the numbers of a limit change.
func Subject(line string) string {
	object, _, _ := strings.Cut(line, counted)
	return object
}

// Apply returns the set and the host within the limits, and the limits that were reached,
// in an order that depends on the input alone. Each tunnel keeps its place in the set; one
// without a pair left has no SA either.
func Apply(set xfrm.Set, host xfrm.Host) (xfrm.Set, xfrm.Host, []Excess) {
	var all []Excess
	note := func(e []Excess) { all = append(all, e...) }
	set, reached := pairs(set, host)
	note(reached)
	set, reached = exceptions(set)
	note(reached)
	host, reached = routes(host)
	note(reached)
	return set, host, all
}

// share is a part of the room for pairs, by the outer addresses in a prefix. The zero
// prefix stands for all.
type share struct {
	peers netip.Prefix
	most  int
}

// shares are those that the pairs of a peer take room of.
func shares(peer netip.Addr) [3]share {
	all := share{most: Pairs}
	if !xfrm.Specified(peer) {
		return [3]share{{most: PairsByPeer}, {most: PairsByNetwork}, all}
	}
	address, network := 64, 48
	if peer.Is4() {
		address, network = 32, 24
	}
	return [3]share{
		{netip.PrefixFrom(peer, address).Masked(), PairsByPeer},
		{netip.PrefixFrom(peer, network).Masked(), PairsByNetwork},
		all,
	}
}

// spot is a pair's place in a set.
type spot struct {
	tunnel, pair int
	index        uint32
}

func pairs(set xfrm.Set, host xfrm.Host) (xfrm.Set, []Excess) {
	count := 0
	for i := range set.Tunnels {
		count += len(set.Tunnels[i].Pairs)
	}
	networks := connected(host)
	if count*(1+len(host.Addresses)) <= PairsByPeer {
		return set, nil
	}
	wants := make(map[share]int)
	weights := make(map[netip.Prefix]int)
	weight := func(remote netip.Prefix) int {
		w, ok := weights[remote]
		if !ok {
			w = 1 + networks.within(remote)
			weights[remote] = w
		}
		return w
	}
	over := false
	for i := range set.Tunnels {
		t := &set.Tunnels[i]
		of := shares(t.Remote)
		for j := range t.Pairs {
			for _, s := range of {
				wants[s] += weight(t.Pairs[j].Remote)
				over = over || wants[s] > s.most
			}
		}
	}
	if !over {
		return set, nil
	}
	spots := make([]spot, 0, count)
	for i := range set.Tunnels {
		for j, p := range set.Tunnels[i].Pairs {
			spots = append(spots, spot{i, j, p.Index})
		}
	}
	slices.SortStableFunc(spots, func(a, b spot) int { return cmp.Compare(a.index, b.index) })
	return within(set, spots, wants, weight)
}

// within fills the shares from the oldest pair on.
func within(set xfrm.Set, oldest []spot, wants map[share]int, weight func(netip.Prefix) int) (xfrm.Set, []Excess) {
	held := make(map[share]int)
	keep := make(map[spot]bool, len(oldest))
	for _, s := range oldest {
		t := &set.Tunnels[s.tunnel]
		of, w := shares(t.Remote), weight(t.Pairs[s.pair].Remote)
		if slices.ContainsFunc(of[:], func(s share) bool { return held[s]+w > s.most }) {
			continue
		}
		for _, s := range of {
			held[s] += w
		}
		keep[s] = true
	}
	set.Tunnels = slices.Clone(set.Tunnels)
	for i := range set.Tunnels {
		t := &set.Tunnels[i]
		var kept []xfrm.Pair
		for j, p := range t.Pairs {
			if keep[spot{i, j, p.Index}] {
				kept = append(kept, p)
			}
		}
		if t.Pairs = kept; len(kept) == 0 {
			t.SAs = nil
		}
	}
	var reached []Excess
	for s, n := range wants {
		if n > s.most {
			reached = append(reached, Excess{
				Object: "pairs of " + s.name(), Count: n, Most: s.most,
				Effect: "packets of the newest are dropped, or left to your firewall unverified",
				Remedy: "cap them with remote: in the configuration of the tunnel, or end the connection that makes them",
			})
		}
	}
	slices.SortFunc(reached, func(a, b Excess) int {
		return cmp.Or(cmp.Compare(b.Most, a.Most), cmp.Compare(b.Count, a.Count), cmp.Compare(a.Object, b.Object))
	})
	return set, few(reached)
}

// name is the share in words.
func (s share) name() string {
	switch {
	case s.peers.IsValid() && (s.peers.IsSingleIP() || s.peers.Bits() == 64 && s.peers.Addr().Is6()):
		return "peer " + trimmed(s.peers)
	case s.peers.IsValid():
		return "peers in " + s.peers.String()
	case s.most == Pairs:
		return "all peers"
	}
	return "peers without an address"
}

func trimmed(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// few bounds the list itself, because each limit of a peer is one entry.
func few(list []Excess) []Excess {
	const most = 5
	if len(list) <= most {
		return list
	}
	return list[:most]
}

func exceptions(set xfrm.Set) (xfrm.Set, []Excess) {
	n := len(set.Exceptions)
	if n <= Exceptions {
		return set, nil
	}
	ages := make([]int, n)
	for i := range ages {
		ages[i] = i
	}
	slices.SortStableFunc(ages, func(a, b int) int {
		return cmp.Compare(set.Exceptions[a].Pair.Index, set.Exceptions[b].Pair.Index)
	})
	kept := ages[:Exceptions]
	slices.Sort(kept)
	all := set.Exceptions
	set.Exceptions = make([]xfrm.Exception, 0, Exceptions)
	for _, i := range kept {
		set.Exceptions = append(set.Exceptions, all[i])
	}
	return set, []Excess{{
		Object: "bypass and block policies", Count: n, Most: Exceptions,
		Effect: "packets of the newest are guarded as those of the tunnel around them",
		Remedy: "have the IKE daemon make fewer, such as no bypass for each host without IPsec",
	}}
}

// routes bounds the routes into devices that only tunnel traffic uses: a peer with
// dynamic routing announces them. Connected networks come first, then wide ones.
func routes(host xfrm.Host) (xfrm.Host, []Excess) {
	if len(host.Routes) <= RoutesByDevice {
		return host, nil
	}
	into := make(map[int32][]int)
	for _, l := range host.Links {
		if l.Kind == "xfrm" || device.IsVTI(l) || device.IsCarried(l) && l.Kind != "vlan" {
			into[l.Index] = nil
		}
	}
	for i := range host.Routes {
		if list, ok := into[host.Routes[i].Link]; ok {
			into[host.Routes[i].Link] = append(list, i)
		}
	}
	left := make(map[int]bool)
	var reached []Excess
	for _, l := range host.Links {
		list := into[l.Index]
		if len(list) <= RoutesByDevice {
			continue
		}
		slices.SortStableFunc(list, func(a, b int) int {
			x, y := &host.Routes[a], &host.Routes[b]
			return cmp.Or(first(y.Connected)-first(x.Connected), cmp.Compare(x.Dst.Bits(), y.Dst.Bits()), xfrm.ComparePrefix(x.Dst, y.Dst))
		})
		for _, i := range list[RoutesByDevice:] {
			left[i] = true
		}
		reached = append(reached, Excess{
			Object: "routes into " + l.Name, Count: len(list), Most: RoutesByDevice,
			Effect: "networks of the others are not guarded, and packets from them are not accepted",
			Remedy: "have the routing daemon take fewer prefixes from this neighbour, or name them in guard: pairs:",
		})
	}
	if len(left) == 0 {
		return host, nil
	}
	all := host.Routes
	host.Routes = make([]xfrm.Route, 0, len(all)-len(left))
	for i := range all {
		if !left[i] {
			host.Routes = append(host.Routes, all[i])
		}
	}
	return host, few(reached)
}

func first(b bool) int {
	if b {
		return 1
	}
	return 0
}

// networks are the connected networks of a host.
type networks struct{ index *prefix.Index }

func connected(host xfrm.Host) networks {
	seen := make(map[netip.Prefix]bool)
	var list []netip.Prefix
	for _, a := range host.Addresses {
		if p := a.Prefix.Masked(); !p.IsSingleIP() && p.Bits() > 0 && !seen[p] {
			seen[p] = true
			list = append(list, p)
		}
	}
	return networks{prefix.NewIndex(len(list), func(i int) netip.Prefix { return list[i] })}
}

// within counts those that overlap a prefix.
func (n networks) within(p netip.Prefix) int { return len(n.index.Overlapping(p)) }
