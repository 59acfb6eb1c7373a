package gateway

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/firewall/sets"
	"github.com/xfrmfw/xfrmfw/firewall/sets/ahead"
	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/follow"
	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

// Applied notes that the changes of a look were committed, so that the live rules stay
// known, and the look serves Ahead. A change that can't be followed has the rules read
// again.
func (g *Gateway) Applied(l Look) {
	_ = g.tracker.Applied(l.Change)
	g.world, g.follower = nil, nil
	if !g.engine.TableDecides() || g.table == nil {
		return
	}
	g.table.settle(l.Table)
	in := l.input
	in.Guards = slices.Concat(l.Config.Guard.Pairs, g.remembered)
	g.world, g.follower = ahead.NewWorld(in, &l.Result.Facts, l.Table), follow.NewFollower(l.Snapshot)
}

// Ahead puts in force what the kernel's notifications since the last look call for, as
// far as elements do and the concerned tunnels alone tell of it. If ok is false all or a
// part of it is left to the next look, which has to come in any case. Changed is true if
// the table is another one now. The caller holds the lock.
func (g *Gateway) Ahead(notes []wire.Note) (changed, ok bool) {
	if g.follower == nil {
		return false, false
	}
	before, after, ok := g.follower.Take(notes)
	if !ok {
		g.world, g.follower = nil, nil
		return false, false
	}
	if !g.world.Ready || !g.table.isKnown() {
		return false, false
	}
	was, is := xfrm.Tunnels(before), xfrm.Tunnels(after)
	found, _ := g.matchPeers(is)
	g.world.Input.Peers = selecting(found)
	change, ok := g.world.Change(&g.table.state.Table, was, is)
	if !ok || g.table.ahead(change) != nil {
		return false, false
	}
	if change.Empty() {
		return false, true
	}
	g.made = append(g.made, change)
	g.madeFor = append(g.madeFor, pairsOf(g.world.NewTunnels(is))...)
	return true, true
}

func pairsOf(tunnels []xfrm.Tunnel) (pairs []kernel.Pair) {
	for _, t := range tunnels {
		for _, p := range t.Pairs {
			if p.Local.Bits() > 0 {
				pairs = append(pairs, kernel.Pair{Local: p.Local, Remote: p.Remote})
			}
		}
	}
	return pairs
}

// TakeMade returns the changes that Ahead has put in force since it was asked last, in
// their order, and the pairs of the tunnels that got their first elements by them.
func (g *Gateway) TakeMade() (tables []sets.Change, pairs []kernel.Pair) {
	tables, pairs = g.made, g.madeFor
	g.made, g.madeFor = nil, nil
	return tables, pairs
}

// ahead puts a change of elements in force, of a table that is known.
func (t *table) ahead(change sets.Change) error {
	if change.Empty() {
		return nil
	}
	generation, err := t.conn.Apply(t.state, change, sets.Table{})
	if err != nil {
		t.known = false
		return err
	}
	t.state.Generation = generation
	t.state.Table.TakeElements(change)
	t.wanted = t.state.Table
	return nil
}
