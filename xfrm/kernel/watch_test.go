package kernel

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

// patience bounds the waiting for something that is bound to happen.
const patience = time.Minute

func TestWatch(t *testing.T) {
	netns(t)
	w := watch(t)
	// Everything after Watch counts, whether Run is called yet or not.
	ip(t, "xfrm policy add src 10.0.0.0/8 dst 10.0.0.0/8 dir in")
	run(t, w)
	waitDirty(t, w)
	ip(t, "xfrm policy update src 10.0.0.0/8 dst 10.0.0.0/8 dir in priority 5")
	waitDirty(t, w)
	ip(t, "xfrm policy delete src 10.0.0.0/8 dst 10.0.0.0/8 dir in")
	waitDirty(t, w)
	ip(t, "xfrm policy add src 10.0.0.0/8 dst 10.0.0.0/8 dir in")
	ip(t, "xfrm policy flush")
	waitFor(t, func() bool { return w.Counts().Events[wire.PoliciesFlushed] > 0 })
	c := w.Counts()
	for _, e := range []wire.Event{wire.PolicyAdded, wire.PolicyUpdated, wire.PolicyDeleted, wire.PoliciesFlushed} {
		if c.Events[e] == 0 {
			t.Errorf("no %s in %+v", e, c)
		}
	}
	if c.Lost != 0 {
		t.Errorf("lost %d", c.Lost)
	}
}

func TestWatchStates(t *testing.T) {
	netns(t)
	w := watch(t)
	run(t, w)
	ip(t, "xfrm state allocspi src 192.0.2.1 dst 192.0.2.2 proto esp min 0x1000 max 0x1000")
	ip(t, "xfrm state delete src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1000")
	waitDirty(t, w)
	if c := w.Counts(); c.Events[wire.StateDeleted] != 1 {
		t.Errorf("got %+v, want one state-deleted", c)
	}
}

// However many events come, a reader that sleeps finds one notification.
func TestWatchCoalesces(t *testing.T) {
	netns(t)
	w := watch(t)
	run(t, w)
	batch(t, 300)
	waitFor(t, func() bool { return w.Counts().Events[wire.PolicyAdded] == 300 })
	waitDirty(t, w)
	select {
	case <-w.Dirty():
		t.Error("dirty twice")
	default:
	}
}

// A socket that overflows makes it dirty and goes on.
func TestWatchOverflow(t *testing.T) {
	netns(t)
	w := watch(t)
	if err := w.conn.socket.SetReceiveBufferSize(4096, false); err != nil {
		t.Fatal(err)
	}
	batch(t, 300)
	run(t, w)
	waitDirty(t, w)
	waitFor(t, func() bool { return w.Counts().Lost > 0 })
	before := total(w.Counts())
	ip(t, "xfrm policy flush")
	waitFor(t, func() bool { return total(w.Counts()) > before })
	waitDirty(t, w)
}

func TestWatchTruncated(t *testing.T) {
	netns(t)
	w := watch(t)
	w.conn.buf = make([]byte, 64)
	run(t, w)
	ip(t, "xfrm policy add src 10.0.0.0/8 dst 10.0.0.0/8 dir in")
	waitDirty(t, w)
	if c := w.Counts(); c.Lost == 0 {
		t.Errorf("got %+v, want it lost", c)
	}
}

func TestWatchEnds(t *testing.T) {
	netns(t)
	w := watch(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	time.Sleep(10 * time.Millisecond)
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("Run goes on")
	}
}

// A socket that fails is dirty, too: a goroutine that waits for Dirty must not sleep on.
func TestWatchFails(t *testing.T) {
	netns(t)
	w := watch(t)
	w.conn.file.Close()
	if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "receive the kernel's notifications") {
		t.Errorf("got %v", err)
	}
	waitDirty(t, w)
}

func watch(t *testing.T) *Watcher {
	t.Helper()
	w, err := Watch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// run runs the watcher until the test ends.
func run(t *testing.T, w *Watcher) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// batch adds n policies.
func batch(t testing.TB, n int) {
	t.Helper()
	f := newFiller(t)
	for i := range n {
		f.policy(t, uint32(i), 0)
	}
}

func waitDirty(t *testing.T, w *Watcher) {
	t.Helper()
	select {
	case <-w.Dirty():
	case <-time.After(patience):
		t.Fatalf("not dirty: %+v", w.Counts())
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not happen")
		}
	}
}

func total(c Counts) (n uint64) {
	for _, v := range c.Events {
		n += v
	}
	return n
}
