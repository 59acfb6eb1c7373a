package daemon

import (
	"sync/atomic"
	"time"
)

// heartbeat records the last turn of the loop, for the watchdog. It uses the monotonic
// clock, because the wall clock may be set at any time.
type heartbeat struct {
	// limit is the longest time from one beat to the next of a loop that works.
	limit time.Duration
	start time.Time
	last  atomic.Int64 // since start, in nanoseconds
}

func newHeartbeat(limit time.Duration) *heartbeat {
	return &heartbeat{limit: limit, start: time.Now()}
}

// interval returns how often an idle loop beats.
func (h *heartbeat) interval() time.Duration { return h.limit / 6 }

func (h *heartbeat) beat() { h.last.Store(int64(time.Since(h.start))) }

// alive reports whether the loop works.
func (h *heartbeat) alive() bool {
	return time.Since(h.start)-time.Duration(h.last.Load()) < h.limit
}
