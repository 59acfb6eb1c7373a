package wire_test

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

func TestClassify(t *testing.T) {
	state := message(espState())
	tests := []struct {
		typ  uint16
		body []byte
		want wire.Event
		look bool
	}{
		{0x10, state, wire.StateAdded, true},
		{0x11, nil, wire.StateDeleted, true},
		{0x13, nil, wire.PolicyAdded, true},
		{0x14, nil, wire.PolicyDeleted, true},
		{0x17, nil, wire.Acquire, true},
		{0x18, append(state[:len(state):len(state)], 1, 0, 0, 0), wire.StateExpired, true},
		{0x18, append(state[:len(state):len(state)], 0, 0, 0, 0), wire.StateExpiring, false},
		{0x18, state, wire.StateExpired, true}, // cut short: better one look too many
		{0x19, nil, wire.PolicyUpdated, true},
		{0x1a, state, wire.StateUpdated, true},
		{0x1b, nil, wire.PolicyExpired, true},
		{0x1c, nil, wire.StatesFlushed, true},
		{0x1d, nil, wire.PoliciesFlushed, true},
		{0x1e, nil, wire.StateUsed, false},
		{0x20, nil, wire.Reported, false},
		{0x21, nil, wire.Migrated, true},
		{0x26, nil, wire.Mapped, true},
		{0x28, nil, wire.DefaultChanged, true},
		{0x29, nil, wire.Migrated, true}, // a single state, since Linux 7.2
		{0x2a, nil, wire.Unknown, true},
		{0xffff, nil, wire.Unknown, true},
	}
	seen := make(map[wire.Event]bool)
	for _, tt := range tests {
		got := wire.Classify(tt.typ, tt.body)
		if got != tt.want || got.Look() != tt.look {
			t.Errorf("type %#x: got %s, look %t; want %s, %t", tt.typ, got, got.Look(), tt.want, tt.look)
		}
		seen[got] = true
	}
	for e := range wire.Events {
		if !seen[e] {
			t.Errorf("no case for %s", e)
		}
		if e.String() == "" {
			t.Errorf("event %d has no name", e)
		}
	}
}
