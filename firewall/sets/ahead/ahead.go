// Package ahead finds the elements of a few tunnels without those of all others, so that
// a tunnel among thousands has its guards and is verified at the kernel's first
// notification. The table that is made of everything follows, and decides which
// elements stay.
//
// The elements come from the same decisions and the same layout, on the tunnels of a few
// reqids alone. They hold in the whole table where nothing else bears on them; World.Change
// takes the step only then. It never opens by taking away: elements that guard stay until
// the whole table is made.
package ahead

import (
	"hash/maphash"
	"maps"
	"net/netip"
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall"
	"github.com/xfrmfw/xfrmfw/firewall/decide"
	"github.com/xfrmfw/xfrmfw/firewall/guard"
	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/program"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/places"
)

// World is all that a table in force was made of.
type World struct {
	Input firewall.Input
	// Gates are those of the table.
	Gates program.Gates
	// Ready is false if tunnels of this host bear on each other, so that no change of a few
	// can be found alone.
	Ready bool

	// chains are those of the table, with their rules.
	chains     []sets.Chain
	exceptions []guard.Guard
	ids        map[string]uint32
	// byTunnel and byPair find the input's guards by hashes.
	byTunnel, byPair places.Places
	seed             maphash.Seed
}

// NewWorld returns the world of facts that were decided from an input, with the guards
// that are remembered now, and of the table that was made of them.
func NewWorld(in firewall.Input, f *firewall.Facts, table sets.Table) *World {
	w := &World{
		Input: in, Gates: program.GatesOf(f), Ready: alone(in, f),
		chains: table.Chains, ids: make(map[string]uint32, len(in.Set.Tunnels)), seed: maphash.MakeSeed(),
	}
	for i := range in.Set.Tunnels {
		w.ids[in.Set.Tunnels[i].ID] = in.Set.Tunnels[i].Reqid
	}
	for i := range f.Guards {
		if f.Guards[i].Exception {
			w.exceptions = append(w.exceptions, f.Guards[i].Guard)
		}
	}
	w.byTunnel = places.Of(len(in.Guards), func(i int) (uint32, bool) { return w.hashTunnel(in.Guards[i].Tunnel), true })
	w.byPair = places.Of(len(in.Guards), func(i int) (uint32, bool) { return w.hashPair(in.Guards[i].Local, in.Guards[i].Remote), true })
	return w
}

func (w *World) hashTunnel(id string) uint32 { return uint32(maphash.String(w.seed, id)) }

func (w *World) hashPair(local, remote netip.Prefix) uint32 {
	return uint32(maphash.Comparable(w.seed, [2]netip.Prefix{local, remote}))
}

// alone reports whether no tunnel bears on decisions about another one. Devices
// that unwrap packets change which networks count as connected, a tunnel may stand in the
// way of enforce, and limits are those of all.
func alone(in firewall.Input, f *firewall.Facts) bool {
	return !in.Config.Enforce && len(f.Excess) == 0 && len(f.Overlays)+len(f.OpenDevices)+len(f.Devices) == 0 && !f.PacketOffload
}

// Change returns the change of a table in force by which the tunnels of some reqids
// become those after an event. Before and after are all tunnels of these reqids. It
// returns false if the change needs more than elements, or can't be told from these
// tunnels alone.
func (w *World) Change(live *sets.Table, before, after xfrm.Set) (sets.Change, bool) {
	if !w.Ready || len(before.Exceptions)+len(after.Exceptions) > 0 || w.named(before, after) {
		return sets.Change{}, false
	}
	want, ok := w.table(after, before, after)
	if !ok || !stands(&want, w.chains) {
		return sets.Change{}, false
	}
	var old sets.Table
	if len(before.Tunnels) > 0 {
		if old, ok = w.table(before, before, after); !ok {
			return sets.Change{}, false
		}
	}
	return elements(live, &old, &want)
}

// table is the one of some tunnels, with the guards of all that are concerned. It returns
// false if others bear on them.
func (w *World) table(set xfrm.Set, concerned ...xfrm.Set) (sets.Table, bool) {
	in := w.input(set, concerned...)
	f := decide.Facts(in)
	if !alone(in, &f) || w.excepted(&f) {
		return sets.Table{}, false
	}
	return program.Table(&f, program.Options{Gates: w.Gates}), true
}

// NewTunnels returns those of a set that the world has not.
func (w *World) NewTunnels(set xfrm.Set) []xfrm.Tunnel {
	return slices.DeleteFunc(slices.Clone(set.Tunnels), func(t xfrm.Tunnel) bool { _, known := w.ids[t.ID]; return known })
}

// named reports whether another tunnel of the host has the name of one of these: what
// protects the very same selectors is named by more than them.
func (w *World) named(of ...xfrm.Set) bool {
	for _, set := range of {
		for i := range set.Tunnels {
			t := &set.Tunnels[i]
			if reqid, known := w.ids[t.ID]; known && reqid != t.Reqid {
				return true
			}
		}
	}
	return false
}

// input is the world's with a few tunnels, and with the guards from memory and
// configuration that are theirs, or of their pairs, before or after.
func (w *World) input(set xfrm.Set, of ...xfrm.Set) firewall.Input {
	found := make(map[int]bool)
	for _, s := range of {
		for i := range s.Tunnels {
			t := &s.Tunnels[i]
			for place := range w.byTunnel.At(w.hashTunnel(t.ID)) {
				if w.Input.Guards[place].Tunnel == t.ID {
					found[place] = true
				}
			}
			for _, p := range t.Pairs {
				for place := range w.byPair.At(w.hashPair(p.Local, p.Remote)) {
					if g := &w.Input.Guards[place]; g.Local == p.Local && g.Remote == p.Remote {
						found[place] = true
					}
				}
			}
		}
	}
	in := w.Input
	in.Set, in.Guards = set, nil
	for _, place := range slices.Sorted(maps.Keys(found)) {
		in.Guards = append(in.Guards, w.Input.Guards[place])
	}
	return in
}

// excepted reports whether an exception covers packets of the facts' guards: it may
// decide before them.
func (w *World) excepted(f *firewall.Facts) bool {
	return slices.ContainsFunc(f.Guards, func(g firewall.GuardFacts) bool {
		return g.Exception || slices.ContainsFunc(w.exceptions, func(e guard.Guard) bool { return g.Remote.Overlaps(e.Remote) })
	})
}
