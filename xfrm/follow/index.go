package follow

import (
	"hash/maphash"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

// An Index has the parts of a snapshot that a rule can depend on, and
// tells which of the kernel's notifications change that. Most do not: a rekey
// puts a state in place of one that differs from it in nothing but its SPI.
//
// A notification that it takes is part of the index from then on. One that it
// can't judge asks for a look, and a new index is made from that.
type Index struct {
	seed   maphash.Seed
	states map[xfrm.StateID]uint64
	// alike counts the states of each hash.
	alike map[uint64]int
	// shared are the IDs of which there may be several states, told apart by
	// their marks, which a deletion need not name.
	shared   map[xfrm.StateID]bool
	policies map[uint64]bool
}

// NewIndex makes the index of a snapshot.
func NewIndex(s xfrm.Snapshot) *Index {
	x := &Index{
		seed:     maphash.MakeSeed(),
		states:   make(map[xfrm.StateID]uint64, len(s.States)),
		alike:    make(map[uint64]int, len(s.States)),
		shared:   make(map[xfrm.StateID]bool),
		policies: make(map[uint64]bool, len(s.Policies)),
	}
	for _, st := range s.States {
		x.add(st)
	}
	for _, p := range s.Policies {
		x.policies[x.hashPolicy(p)] = true
	}
	return x
}

// Take makes a notification part of the index, and reports whether the kernel has
// to be looked at: whether it changes anything that a rule can depend on. It may
// have been in the snapshot already.
func (x *Index) Take(n wire.Note) (look bool) {
	if n.Lost {
		return true
	}
	switch n.Event {
	case wire.StateAdded, wire.StateUpdated:
		return x.add(n.State)
	case wire.StateDeleted, wire.StateExpired:
		return x.remove(n.ID)
	case wire.PolicyUpdated:
		return !x.policies[x.hashPolicy(n.Policy)]
	case wire.Acquire:
		// Its state is a larval one, of which no rule knows.
		return false
	}
	return n.Event.Look()
}

// add reports whether the state is one that no other is like, or takes the place
// of such a one.
func (x *Index) add(s xfrm.State) (look bool) {
	if s.Larval() {
		return false
	}
	id, hash := s.ID(), x.hashState(s)
	old, known := x.states[id]
	if known && old == hash {
		return false
	}
	if known {
		x.remove(id)
		x.shared[id] = true
	}
	x.states[id] = hash
	x.alike[hash]++
	return known || x.alike[hash] == 1
}

// remove reports whether the state was the last of its kind.
func (x *Index) remove(id xfrm.StateID) (look bool) {
	hash, known := x.states[id]
	if !known {
		return x.shared[id]
	}
	delete(x.states, id)
	if x.alike[hash]--; x.alike[hash] > 0 {
		return x.shared[id]
	}
	delete(x.alike, hash)
	return true
}

// hashState is of all but the differences between a state and the one that it is
// rekeyed to. No rule has an SPI, except the number in its place in a pseudo
// state of IPComp: the peer.
func (x *Index) hashState(s xfrm.State) uint64 {
	if s.Proto == xfrm.ESP || s.Proto == xfrm.AH {
		s.SPI = 0
	}
	s.AddTime, s.UseTime, s.Bytes, s.Packets = 0, 0, 0, 0
	s.Lifetime, s.Errors = xfrm.Lifetime{}, xfrm.Errors{}
	return maphash.Comparable(x.seed, s)
}

// hashPolicy leaves out the index, which is new with each update, and the SPI that
// a template asks for: strongSwan's outbound policies name their state, and are
// updated with each rekey.
func (x *Index) hashPolicy(p xfrm.Policy) uint64 {
	var h maphash.Hash
	h.SetSeed(x.seed)
	templates := p.Templates
	maphash.WriteComparable(&h, struct {
		Selector xfrm.Selector
		Dir      xfrm.Dir
		Type     xfrm.PolicyType
		Action   xfrm.Action
		Priority uint32
		IfID     uint32
		Mark     xfrm.Mark
		Flags    uint8
		Offload  xfrm.Offload
		N        int
	}{p.Selector, p.Dir, p.Type, p.Action, p.Priority, p.IfID, p.Mark, p.Flags, p.Offload, len(templates)})
	for _, t := range templates {
		t.SPI = 0
		maphash.WriteComparable(&h, t)
	}
	return h.Sum64()
}
