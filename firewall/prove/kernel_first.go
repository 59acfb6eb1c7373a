package prove

import (
	"cmp"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/prove/space"
	"github.com/xfrmfw/xfrmfw/xfrm"
)

// side is the place of a packet's other end, where the kernel looks for its policy.
type side struct {
	// out is true for packets to the remote selector, and false for those from it.
	out   bool
	dst   space.Classed
	dport space.Field
	// dirs has bit 1<<Dir set for each direction of which an exception holds. Marked is true
	// where packets have the mark that other programs give them.
	dirs   uint8
	marked bool
}

// arriving are the ends of packets that come in, before DNAT: nothing tells there whether
// they are for this host.
func (q *question) arriving() side {
	return side{dst: q.Dst, dport: q.DPort, dirs: 1<<xfrm.In | 1<<xfrm.Fwd}
}

// arrived are those behind DNAT.
func (q *question) arrived() side {
	at := side{dst: q.RoutedDst, dport: q.RoutedDPort, dirs: 1 << xfrm.Fwd, marked: true}
	if q.Way == firewall.ToHost {
		at.dirs = 1 << xfrm.In
	}
	return at
}

// leaving are the ends of packets that leave. Entering are those of packets that come in
// and would go into a tunnel, before DNAT, and mapped behind it.
func (q *question) leaving() side {
	return side{out: true, dst: q.RoutedDst, dport: q.RoutedDPort, dirs: 1 << xfrm.Out, marked: true}
}

func (q *question) entering() side {
	return side{out: true, dst: q.Dst, dport: q.DPort, dirs: 1 << xfrm.Out}
}

func (q *question) mappedInto() side {
	return side{out: true, dst: q.RoutedDst, dport: q.RoutedDPort, dirs: 1 << xfrm.Out}
}

// spared is an exception: a bypass policy, one of level use, or one that is remembered.
type spared struct {
	xfrm.Pair
	dirs uint8
	turn
}

// turn is the order in which the kernel looks at policies: by priority, the older one
// first. A remembered one comes after those that stand.
type turn struct {
	priority   uint32
	remembered bool
	index      uint32
}

func (a turn) compare(b turn) int {
	return cmp.Or(cmp.Compare(a.priority, b.priority), xfrm.CompareBool(a.remembered, b.remembered), cmp.Compare(a.index, b.index))
}

// exceptions are those of the host in their order. A block policy is none, because
// disable_policy switches off the kernel's own drop.
func (k *kernel) exceptions() []spared {
	var list []spared
	for _, e := range k.in.Set.Exceptions {
		if e.Action != xfrm.Block {
			list = append(list, spared{e.Pair, e.Pair.Dirs, turn{e.Priority, false, e.Pair.Index}})
		}
	}
	for i := range k.in.Set.Tunnels {
		for _, p := range k.in.Set.Tunnels[i].Pairs {
			if p.OptionalDirs != 0 {
				list = append(list, spared{p, p.OptionalDirs, turn{p.Priority, false, p.Index}})
			}
		}
	}
	for _, g := range k.in.Guards {
		if g.Exception {
			p := g.Pair()
			p.Mark = g.Mark
			list = append(list, spared{p, g.Dirs, turn{g.Priority, true, 0}})
		}
	}
	slices.SortStableFunc(list, func(a, b spared) int { return a.compare(b.turn) })
	return list
}

// first are the packets of pairs, each but for those that an exception before its policy
// spares. A pair without a policy is behind all exceptions.
func (k *kernel) first(at side, pairs []guarded, of func(guarded) space.Set) space.Set {
	exceptions := slices.DeleteFunc(k.exceptions(), func(e spared) bool { return e.dirs&at.dirs == 0 })
	if len(exceptions) == 0 {
		list := make([]space.Set, len(pairs))
		for i := range pairs {
			list[i] = of(pairs[i])
		}
		return k.Union(list...)
	}
	slices.SortStableFunc(pairs, func(a, b guarded) int {
		return cmp.Or(xfrm.CompareBool(!a.live, !b.live), turn{a.Priority, false, a.Index}.compare(turn{b.Priority, false, b.Index}))
	})
	result, before := space.None, space.None
	var row []space.Set
	for _, p := range pairs {
		for len(exceptions) > 0 && (!p.live || exceptions[0].compare(turn{p.Priority, false, p.Index}) <= 0) {
			result, row = k.Or(result, k.Minus(k.Union(row...), before)), nil
			e := k.lies(exceptions[0].Pair, at)
			if m := exceptions[0].Mark; at.marked && m.Mask != 0 {
				e = k.And(e, k.MarkIs(m.Value, m.Mask))
			}
			before, exceptions = k.Or(before, e), exceptions[1:]
		}
		row = append(row, of(p))
	}
	return k.Or(result, k.Minus(k.Union(row...), before))
}
