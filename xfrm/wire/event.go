package wire

import "strconv"

// Event is a kind of notification that the kernel sends when its states or
// policies change (the XFRMNLGRP_* multicast groups).
type Event uint8

// The events, in the order of their message types. StateUsed and StateExpiring
// are the two that change nothing a rule depends on.
const (
	Unknown         Event = iota // a message of a newer kernel
	StateAdded                   // XFRM_MSG_NEWSA
	StateDeleted                 // XFRM_MSG_DELSA
	PolicyAdded                  // XFRM_MSG_NEWPOLICY
	PolicyDeleted                // XFRM_MSG_DELPOLICY
	Acquire                      // XFRM_MSG_ACQUIRE: traffic asks for a state
	StateExpiring                // XFRM_MSG_EXPIRE, soft: rekeying is due
	StateExpired                 // XFRM_MSG_EXPIRE, hard: the state is gone, without a StateDeleted
	PolicyUpdated                // XFRM_MSG_UPDPOLICY
	StateUpdated                 // XFRM_MSG_UPDSA
	PolicyExpired                // XFRM_MSG_POLEXPIRE
	StatesFlushed                // XFRM_MSG_FLUSHSA: all of a protocol, without a StateDeleted each
	PoliciesFlushed              // XFRM_MSG_FLUSHPOLICY
	StateUsed                    // XFRM_MSG_NEWAE: counters and replay sequence
	Reported                     // XFRM_MSG_REPORT: a packet that mobile IPv6 refused
	Migrated                     // XFRM_MSG_MIGRATE, MIGRATE_STATE: states moved to other addresses, the latter also to another reqid
	Mapped                       // XFRM_MSG_MAPPING: the peer's NAT changed its port
	DefaultChanged               // XFRM_MSG_GETDEFAULT: the default without a policy
	Events                       // the number of kinds, for a table of counters
)

var eventNames = [Events]string{
	"unknown", "state-added", "state-deleted", "policy-added", "policy-deleted", "acquire",
	"state-expiring", "state-expired", "policy-updated", "state-updated", "policy-expired",
	"states-flushed", "policies-flushed", "state-used", "reported", "migrated", "mapped",
	"default-changed",
}

// String returns the event's name, for counters.
func (e Event) String() string {
	if e < Events {
		return eventNames[e]
	}
	return "event-" + strconv.Itoa(int(e))
}

// Look reports whether the kernel has to be read again after the event. An
// event is never applied by itself: several of them are incomplete, and some
// changes have none.
func (e Event) Look() bool { return e != StateExpiring && e != StateUsed && e != Reported }

// Classify returns the subject of a notification. The body is the message without
// its nlmsghdr. A message that is not understood is Unknown and asks for a look.
func Classify(typ uint16, body []byte) Event {
	switch typ {
	case msgNewSA:
		return StateAdded
	case msgDelSA:
		return StateDeleted
	case msgNewPolicy:
		return PolicyAdded
	case msgDelPolicy:
		return PolicyDeleted
	case msgAcquire:
		return Acquire
	case msgExpire:
		// struct xfrm_user_expire: the state, then a byte that is 0 if soft.
		if len(body) > stateSize && body[stateSize] == 0 {
			return StateExpiring
		}
		return StateExpired
	case msgUpdPolicy:
		return PolicyUpdated
	case msgUpdSA:
		return StateUpdated
	case msgPolExpire:
		return PolicyExpired
	case msgFlushSA:
		return StatesFlushed
	case msgFlushPolicy:
		return PoliciesFlushed
	case msgNewAE:
		return StateUsed
	case msgReport:
		return Reported
	case msgMigrate, msgMigrateSA:
		return Migrated
	case msgMapping:
		return Mapped
	case msgGetDefault:
		return DefaultChanged
	}
	return Unknown
}
