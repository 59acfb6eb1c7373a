package xfrm_test

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

func TestClassify(t *testing.T) {
	state := message(espState())
	tests := []struct {
		typ  uint16
		body []byte
		want xfrm.Event
		look bool
	}{
		{0x10, state, xfrm.StateAdded, true},
		{0x11, nil, xfrm.StateDeleted, true},
		{0x13, nil, xfrm.PolicyAdded, true},
		{0x14, nil, xfrm.PolicyDeleted, true},
		{0x17, nil, xfrm.Acquire, true},
		{0x18, append(state[:len(state):len(state)], 1, 0, 0, 0), xfrm.StateExpired, true},
		{0x18, append(state[:len(state):len(state)], 0, 0, 0, 0), xfrm.StateExpiring, false},
		{0x18, state, xfrm.StateExpired, true}, // cut short: better one look too many
		{0x19, nil, xfrm.PolicyUpdated, true},
		{0x1a, state, xfrm.StateUpdated, true},
		{0x1b, nil, xfrm.PolicyExpired, true},
		{0x1c, nil, xfrm.StatesFlushed, true},
		{0x1d, nil, xfrm.PoliciesFlushed, true},
		{0x1e, nil, xfrm.StateUsed, false},
		{0x20, nil, xfrm.Reported, false},
		{0x21, nil, xfrm.Migrated, true},
		{0x26, nil, xfrm.Mapped, true},
		{0x28, nil, xfrm.DefaultChanged, true},
		{0x29, nil, xfrm.Migrated, true}, // a single state, since Linux 7.2
		{0x2a, nil, xfrm.Unknown, true},
		{0xffff, nil, xfrm.Unknown, true},
	}
	seen := make(map[xfrm.Event]bool)
	for _, tt := range tests {
		got := xfrm.Classify(tt.typ, tt.body)
		if got != tt.want || got.Look() != tt.look {
			t.Errorf("type %#x: got %s, look %t; want %s, %t", tt.typ, got, got.Look(), tt.want, tt.look)
		}
		seen[got] = true
	}
	for e := range xfrm.Events {
		if !seen[e] {
			t.Errorf("no case for %s", e)
		}
		if e.String() == "" {
			t.Errorf("event %d has no name", e)
		}
	}
}
