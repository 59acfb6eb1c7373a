package guard

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// sortGuards sorts guards by their places, as they are large, and mostly in order.
func sortGuards(guards []Guard, compare func(a, b *Guard) int) {
	sorted := true
	for i := 1; i < len(guards) && sorted; i++ {
		sorted = compare(&guards[i-1], &guards[i]) <= 0
	}
	if sorted {
		return
	}
	order := make([]int, len(guards))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return compare(&guards[a], &guards[b]) })
	before := slices.Clone(guards)
	for i, at := range order {
		guards[i] = before[at]
	}
}

func compareGuards(a, b *Guard) int {
	if n := compareSelectors(a, b); n != 0 {
		return n
	}
	return cmp.Or(xfrm.CompareBool(b.Exception, a.Exception), cmp.Compare(a.Tunnel, b.Tunnel))
}

// compareSelectors orders guards by priority, the most specific first.
func compareSelectors(a, b *Guard) int {
	if a.Priority != b.Priority {
		return cmp.Compare(a.Priority, b.Priority)
	}
	if n := b.Remote.Bits() - a.Remote.Bits(); n != 0 {
		return n
	}
	if n := b.Local.Bits() - a.Local.Bits(); n != 0 {
		return n
	}
	return a.Pair().Compare(b.Pair())
}

// guardKey identifies a guard: guards with equal keys are the same.
type guardKey struct {
	local, remote         netip.Prefix
	proto                 xfrm.Proto
	localPort, remotePort xfrm.PortMatch
	exception             bool
	// dirs only counts for exceptions: pairs are guarded in both directions.
	dirs uint8
	mark xfrm.Mark
}

func (g Guard) key() guardKey {
	k := guardKey{g.Local, g.Remote, g.Proto, g.LocalPort, g.RemotePort, g.Exception, 0, g.Mark}
	if g.Exception {
		k.dirs = g.Dirs
	}
	return k
}

// InForce are all that the rules enforce, in the order in which they decide:
// live and remembered ones by priority, as the kernel would, a live one before
// a remembered one; then configured ones. A live guard is not repeated.
func InForce(live, others []Guard) []Guard {
	if len(others) == 0 {
		return live // which is in that order
	}
	// Remembered guards usually have a live twin, in the same order.
	var left []*Guard
	at := 0
	for i := range others {
		g := &others[i]
		for at < len(live) && compareSelectors(&live[at], g) < 0 {
			at++
		}
		if at == len(live) || live[at].key() != g.key() {
			left = append(left, g)
		}
	}
	if len(left) == 0 {
		return live
	}
	all := make([]Guard, 0, len(live)+len(left))
	all = append(all, live...)
	standing := make(map[guardKey]bool, len(live))
	for i := range live {
		standing[live[i].key()] = true
	}
	for _, g := range left {
		if !standing[g.key()] {
			standing[g.key()] = true
			all = append(all, *g)
		}
	}
	sortGuards(all, func(a, b *Guard) int {
		return cmp.Or(
			xfrm.CompareBool(a.Source == FromConfig, b.Source == FromConfig),
			cmp.Compare(a.Priority, b.Priority),
			xfrm.CompareBool(a.Source == FromMemory, b.Source == FromMemory),
		)
	})
	return all
}
