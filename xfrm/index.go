package xfrm

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// An Index has the parts of a snapshot that a rule can depend on, and
// tells which of the kernel's notifications change that. Most do not: a rekey
// puts a state in place of one that differs from it in nothing but its SPI.
//
// A notification that it takes is part of the index from then on. One that it
// can't judge asks for a look, and a new index is made from that.
type Index struct {
	seed   maphash.Seed
	states map[stateID]uint64
	// alike counts the states of each hash.
	alike map[uint64]int
	// shared are the IDs of which there may be several states, told apart by
	// their marks, which a deletion need not name.
	shared   map[stateID]bool
	policies map[uint64]bool
}

// stateID identifies a state.
type stateID struct {
	dst   netip.Addr
	spi   uint32
	proto Proto
}

// Note is the part of a notification that an Index needs, to be taken later: its body is
// wiped once it was looked at, as there may be keys in it.
type Note struct {
	event  Event
	id     stateID
	state  State
	policy Policy
	// lost says that the notification was not understood.
	lost bool
}

// NewIndex makes the index of a snapshot.
func NewIndex(s Snapshot) *Index {
	x := &Index{
		seed:     maphash.MakeSeed(),
		states:   make(map[stateID]uint64, len(s.States)),
		alike:    make(map[uint64]int, len(s.States)),
		shared:   make(map[stateID]bool),
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

// NoteOf reads a notification. The body is the message without its nlmsghdr, and
// nothing of it is kept.
func (d *Decoder) NoteOf(typ uint16, body []byte) Note {
	n := Note{event: Classify(typ, body)}
	var s Snapshot
	switch n.event {
	case StateAdded, StateUpdated, StateExpired:
		if n.event == StateExpired && len(body) > stateSize {
			body = body[:stateSize] // the rest is no attribute
		}
		if d.Decode(&s, msgNewSA, body) != nil || len(s.States) != 1 {
			n.lost = true
			break
		}
		n.state = s.States[0]
		n.id = idOf(n.state)
	case StateDeleted:
		n.id, n.lost = deletedState(body)
	case PolicyAdded, PolicyUpdated, PolicyDeleted:
		if n.event == PolicyDeleted {
			body = deletedPolicy(body)
		}
		if d.Decode(&s, msgNewPolicy, body) != nil || len(s.Policies) != 1 {
			n.lost = true
			break
		}
		n.policy = s.Policies[0]
	}
	return n
}

// ofState and ofPolicy report whether the note is about one state or policy.
func (n *Note) ofState() bool {
	switch n.event {
	case StateAdded, StateUpdated, StateDeleted, StateExpired:
		return true
	}
	return false
}

func (n *Note) ofPolicy() bool {
	return n.event == PolicyAdded || n.event == PolicyUpdated || n.event == PolicyDeleted
}

// adds reports whether the object is there afterwards.
func (n *Note) adds() bool {
	switch n.event {
	case StateAdded, StateUpdated, PolicyAdded, PolicyUpdated:
		return true
	}
	return false
}

// deletedPolicy returns the policy in the message of its deletion in the form of that of
// a new one: the first attribute behind the struct xfrm_userpolicy_id is the policy, and
// the others follow (net/xfrm/xfrm_user.c, xfrm_notify_policy).
func deletedPolicy(body []byte) []byte {
	const idSize = 64 // struct xfrm_userpolicy_id
	if len(body) < idSize+attrHeaderLen || native.Uint16(body[idSize+2:])&attrTypeMask != attrPolicy {
		return nil
	}
	return body[idSize+attrHeaderLen:]
}

// deletedState reads a struct xfrm_usersa_id.
func deletedState(body []byte) (id stateID, lost bool) {
	if len(body) < 24 {
		return stateID{}, true
	}
	f, err := family(body[20:])
	if err != nil {
		return stateID{}, true
	}
	return stateID{dst: addr(f, body[:16]), spi: binary.BigEndian.Uint32(body[16:]), proto: Proto(body[22])}, false
}

// Take makes a notification part of the index, and reports whether the kernel has
// to be looked at: whether it changes anything that a rule can depend on. It may
// have been in the snapshot already.
func (x *Index) Take(n Note) (look bool) {
	if n.lost {
		return true
	}
	switch n.event {
	case StateAdded, StateUpdated:
		return x.add(n.state)
	case StateDeleted, StateExpired:
		return x.remove(n.id)
	case PolicyUpdated:
		return !x.policies[x.hashPolicy(n.policy)]
	case Acquire:
		// Its state is a larval one, of which no rule knows.
		return false
	}
	return n.event.Look()
}

// add reports whether the state is one that no other is like, or takes the place
// of such a one.
func (x *Index) add(s State) (look bool) {
	if s.Larval() {
		return false
	}
	id, hash := idOf(s), x.hashState(s)
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
func (x *Index) remove(id stateID) (look bool) {
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

func idOf(s State) stateID { return stateID{dst: s.Dst, spi: s.SPI, proto: s.Proto} }

// hashState is of all but the differences between a state and the one that it is
// rekeyed to. No rule has an SPI, except the number in its place in a pseudo
// state of IPComp: the peer.
func (x *Index) hashState(s State) uint64 {
	if s.Proto == ESP || s.Proto == AH {
		s.SPI = 0
	}
	s.AddTime, s.UseTime, s.Bytes, s.Packets = 0, 0, 0, 0
	s.Lifetime, s.Errors = Lifetime{}, Errors{}
	return maphash.Comparable(x.seed, s)
}

// hashPolicy leaves out the index, which is new with each update, and the SPI that
// a template asks for: strongSwan's outbound policies name their state, and are
// updated with each rekey.
func (x *Index) hashPolicy(p Policy) uint64 {
	var h maphash.Hash
	h.SetSeed(x.seed)
	templates := p.Templates
	maphash.WriteComparable(&h, struct {
		Selector Selector
		Dir      Dir
		Type     PolicyType
		Action   Action
		Priority uint32
		IfID     uint32
		Mark     Mark
		Flags    uint8
		Offload  Offload
		N        int
	}{p.Selector, p.Dir, p.Type, p.Action, p.Priority, p.IfID, p.Mark, p.Flags, p.Offload, len(templates)})
	for _, t := range templates {
		t.SPI = 0
		maphash.WriteComparable(&h, t)
	}
	return h.Sum64()
}
