package daemon

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xfrmfw/xfrmfw/xfrm/kernel"
)

// A watcher that fails at once is opened anew, and tells that something may have
// been missed, but not as fast as the processor can.
func TestSourceThatFailsAtOnce(t *testing.T) {
	t.Parallel()
	var opened atomic.Int32
	s := newSource("nothing", func() (*kernel.Watcher, error) {
		opened.Add(1)
		w, err := kernel.WatchHost()
		if err == nil {
			w.Close() // so that it can't receive
		}
		return w, err
	})
	ctx, cancel := context.WithCancel(context.Background())
	begun := time.Now()
	if err := s.start(ctx, newLogger(io.Discard)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first is its own last word, the second that of the new one
		select {
		case <-s.C():
		case <-time.After(time.Minute):
			t.Fatal("it does not tell that it has to be looked")
		}
	}
	if n, most := opened.Load(), int32(time.Since(begun)/reopen)+2; n < 2 || n > most {
		t.Errorf("opened %d times in %s", n, time.Since(begun))
	}
	cancel()
	s.wait()
	if s.alive() {
		t.Error("still alive")
	}
}
