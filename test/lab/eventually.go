package lab

import (
	"testing"
	"time"
)

// Patience is how long a condition may take to come true: the lab is emulated, some things are ten times slower, and other
// machines are emulated beside it. The condition comes sooner, unless it never does.
const Patience = time.Minute

// Eventually waits until the condition returns nil. When the time is over, the test fails with the last error. With a
// crowd of tunnels the time is longer.
func Eventually(t testing.TB, limit time.Duration, condition func() error) {
	t.Helper()
	limit = room(limit)
	deadline := time.Now().Add(limit)
	pause := 2 * time.Millisecond
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", limit, err)
		}
		time.Sleep(pause)
		pause = min(2*pause, 200*time.Millisecond)
	}
}
