package wire

import (
	"encoding/binary"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// Note is the part of a notification that following the kernel needs, to be taken later: its body is
// wiped once it was looked at, as there may be keys in it.
type Note struct {
	Event Event
	// ID and State are of a notification about a state; of a deleted one there is no State.
	ID     xfrm.StateID
	State  xfrm.State
	Policy xfrm.Policy
	// Lost says that the notification was not understood.
	Lost bool
}

// NoteOf reads a notification. The body is the message without its nlmsghdr, and
// nothing of it is kept.
func (d *Decoder) NoteOf(typ uint16, body []byte) Note {
	n := Note{Event: Classify(typ, body)}
	var s xfrm.Snapshot
	switch n.Event {
	case StateAdded, StateUpdated, StateExpired:
		if n.Event == StateExpired && len(body) > stateSize {
			body = body[:stateSize] // the rest is no attribute
		}
		if d.Decode(&s, msgNewSA, body) != nil || len(s.States) != 1 {
			n.Lost = true
			break
		}
		n.State = s.States[0]
		n.ID = n.State.ID()
	case StateDeleted:
		n.ID, n.Lost = deletedState(body)
	case PolicyAdded, PolicyUpdated, PolicyDeleted:
		if n.Event == PolicyDeleted {
			body = deletedPolicy(body)
		}
		if d.Decode(&s, msgNewPolicy, body) != nil || len(s.Policies) != 1 {
			n.Lost = true
			break
		}
		n.Policy = s.Policies[0]
	}
	return n
}

// OfState reports whether the note is about one state.
func (n *Note) OfState() bool {
	switch n.Event {
	case StateAdded, StateUpdated, StateDeleted, StateExpired:
		return true
	}
	return false
}

// OfPolicy reports whether the note is about one policy.
func (n *Note) OfPolicy() bool {
	return n.Event == PolicyAdded || n.Event == PolicyUpdated || n.Event == PolicyDeleted
}

// Adds reports whether the object is there afterwards.
func (n *Note) Adds() bool {
	switch n.Event {
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
func deletedState(body []byte) (id xfrm.StateID, lost bool) {
	if len(body) < 24 {
		return xfrm.StateID{}, true
	}
	f, err := family(body[20:])
	if err != nil {
		return xfrm.StateID{}, true
	}
	return xfrm.StateID{Dst: addr(f, body[:16]), SPI: binary.BigEndian.Uint32(body[16:]), Proto: xfrm.Proto(body[22])}, false
}
