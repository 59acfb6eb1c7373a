package follow

import (
	"slices"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/places"
	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

// A Follower keeps the states and policies of a snapshot current by the kernel's
// notifications, for the reqids that these are about. Notifications are no more than
// a hint of what the next snapshot has: some changes have none. A Follower is not for
// concurrent use.
type Follower struct {
	snapshot xfrm.Snapshot
	// policiesByIndex to statesByReqid find records of the snapshot.
	policiesByIndex, policiesByReqid, statesBySPI, statesByReqid places.Places
	// current are the records of the reqids that notifications were about.
	current map[uint32]xfrm.Snapshot
	// reqids are those of the states that notifications were about, and policies those of
	// the policies.
	reqids   map[xfrm.StateID]uint32
	policies map[policyID]uint32
	lost     bool
}

// policyID identifies a policy.
type policyID struct {
	index uint32
	dir   xfrm.Dir
}

func policyIDOf(p *xfrm.Policy) policyID { return policyID{p.Index, p.Dir} }

// NewFollower follows from a snapshot on. It keeps the snapshot and does not write to it.
func NewFollower(s xfrm.Snapshot) *Follower {
	policy := func(number func(*xfrm.Policy) (uint32, bool)) places.Places {
		return places.Of(len(s.Policies), func(i int) (uint32, bool) {
			n, ok := number(&s.Policies[i])
			return n, ok && !s.Policies[i].Socket()
		})
	}
	return &Follower{
		snapshot:        s,
		policiesByIndex: policy(func(p *xfrm.Policy) (uint32, bool) { return p.Index, true }),
		policiesByReqid: policy((*xfrm.Policy).Protects),
		statesBySPI:     places.Of(len(s.States), func(i int) (uint32, bool) { return s.States[i].SPI, true }),
		statesByReqid:   places.Of(len(s.States), func(i int) (uint32, bool) { return s.States[i].Reqid, true }),
		current:         make(map[uint32]xfrm.Snapshot), reqids: make(map[xfrm.StateID]uint32), policies: make(map[policyID]uint32),
	}
}

// Take follows notifications, which the snapshot may contain already. Before and after
// are all records of the reqids that they are about, sorted and with the snapshot's host.
// It returns false, from then on, if a notification tells of anything else, such as a
// flush or a bypass policy, or was not understood: then a new snapshot is needed.
func (f *Follower) Take(notes []wire.Note) (before, after xfrm.Snapshot, ok bool) {
	reqids := f.concerned(notes)
	if f.lost {
		return xfrm.Snapshot{}, xfrm.Snapshot{}, false
	}
	f.find(reqids)
	if f.lost {
		return xfrm.Snapshot{}, xfrm.Snapshot{}, false
	}
	before = f.records(reqids)
	for i := range notes {
		f.apply(&notes[i])
	}
	return before, f.records(reqids), !f.lost
}

// concerned returns the reqids that notifications are about.
func (f *Follower) concerned(notes []wire.Note) map[uint32]bool {
	for i := range notes {
		switch n := &notes[i]; {
		case n.Lost:
			f.lost = true
		case n.OfPolicy():
			f.findPolicy(policyIDOf(&n.Policy))
		case n.OfState():
			f.findState(n.ID)
			if n.Adds() {
				// An ID that is used again may give a state to another tunnel.
				former, known := f.reqids[n.ID]
				f.lost = f.lost || known && former != n.State.Reqid
				f.reqids[n.ID] = n.State.Reqid
			}
		}
	}
	reqids := make(map[uint32]bool)
	for i := range notes {
		if reqid, ok := f.reqidOf(&notes[i]); ok {
			reqids[reqid] = true
		}
	}
	// Without a reqid policies and states are told apart by more.
	f.lost = f.lost || reqids[0]
	return reqids
}

// findPolicy takes the reqid of a policy from the snapshot, unless it is known.
func (f *Follower) findPolicy(id policyID) {
	if _, known := f.policies[id]; known {
		return
	}
	for i := range f.policiesByIndex.At(id.index) {
		if p := &f.snapshot.Policies[i]; policyIDOf(p) == id {
			reqid, ok := p.Protects()
			f.policies[id] = reqid
			f.lost = f.lost || !ok
		}
	}
}

// findState takes the reqid of a state from the snapshot, unless it is known. A larval state
// may have none yet, and serves nothing.
func (f *Follower) findState(id xfrm.StateID) {
	if _, known := f.reqids[id]; known {
		return
	}
	for i := range f.statesBySPI.At(id.SPI) {
		if st := &f.snapshot.States[i]; st.ID() == id && !st.Larval() {
			f.reqids[id] = st.Reqid
		}
	}
}

// reqidOf returns the reqid that a notification is about, if it is about one. A state
// that was never known serves nothing.
func (f *Follower) reqidOf(n *wire.Note) (reqid uint32, ok bool) {
	switch {
	case n.OfState():
		reqid, ok = f.reqids[n.ID]
	case n.OfPolicy():
		if n.Policy.Socket() {
			return 0, false
		}
		if reqid, ok = n.Policy.Protects(); !ok {
			f.lost = true
			return 0, false
		}
		// An update may give a policy to another tunnel.
		former, known := f.policies[policyIDOf(&n.Policy)]
		f.lost = f.lost || known && former != reqid
		f.policies[policyIDOf(&n.Policy)] = reqid
	case n.Event == wire.Acquire:
	default:
		f.lost = f.lost || n.Event.Look()
	}
	return reqid, ok
}

// find takes the records of reqids that are not followed yet from the snapshot.
func (f *Follower) find(reqids map[uint32]bool) {
	for reqid := range reqids {
		if _, ok := f.current[reqid]; ok {
			continue
		}
		var of xfrm.Snapshot
		for i := range f.policiesByReqid.At(reqid) {
			of.Policies = append(of.Policies, f.snapshot.Policies[i])
		}
		for i := range f.statesByReqid.At(reqid) {
			st := f.snapshot.States[i]
			// States told apart by their marks: a deletion does not name the mark.
			f.lost = f.lost || slices.ContainsFunc(of.States, func(o xfrm.State) bool { return o.ID() == st.ID() })
			of.States = append(of.States, st)
		}
		f.current[reqid] = of
	}
}

// records are those of reqids.
func (f *Follower) records(reqids map[uint32]bool) xfrm.Snapshot {
	s := xfrm.Snapshot{Schema: xfrm.SchemaVersion, Host: f.snapshot.Host}
	for reqid := range reqids {
		s.Policies = append(s.Policies, f.current[reqid].Policies...)
		s.States = append(s.States, f.current[reqid].States...)
	}
	s.SortRecords()
	return s
}

func (f *Follower) apply(n *wire.Note) {
	reqid, ok := f.reqidOf(n)
	if !ok {
		return
	}
	s := f.current[reqid]
	switch {
	case n.OfState():
		s.States = slices.DeleteFunc(slices.Clone(s.States), func(o xfrm.State) bool { return o.ID() == n.ID })
		if n.Adds() {
			s.States = append(s.States, n.State)
		}
	default:
		id := policyIDOf(&n.Policy)
		s.Policies = slices.DeleteFunc(slices.Clone(s.Policies), func(o xfrm.Policy) bool { return policyIDOf(&o) == id })
		if n.Adds() {
			s.Policies = append(s.Policies, n.Policy)
		}
	}
	f.current[reqid] = s
}
