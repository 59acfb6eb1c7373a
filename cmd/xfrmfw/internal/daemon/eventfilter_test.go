package daemon

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/follow"
)

const (
	flushed = 0x1c // XFRM_MSG_FLUSHSA
	acquire = 0x17 // XFRM_MSG_ACQUIRE
)

func TestWhatComesWhileTheKernelIsReadIsJudgedAfterwards(t *testing.T) {
	var k eventFilter
	if !k.relevant(flushed, make([]byte, 1)) || !k.relevant(acquire, nil) {
		t.Error("with nothing known, something asks for no look")
	}
	k.begin()
	if k.relevant(flushed, make([]byte, 1)) {
		t.Error("a look is asked for while one is taken")
	}
	if !k.end(follow.NewIndex(xfrm.Snapshot{})) {
		t.Error("what came meanwhile is forgotten")
	}
	if k.relevant(acquire, nil) || !k.relevant(flushed, nil) {
		t.Error("it is not judged by what is known")
	}
	k.begin()
	if k.end(follow.NewIndex(xfrm.Snapshot{})) {
		t.Error("a look is asked for though nothing came")
	}
	k.begin()
	for range mostMissed + 1 {
		k.relevant(acquire, nil)
	}
	if !k.end(follow.NewIndex(xfrm.Snapshot{})) {
		t.Error("what can't be kept for later asks for no look")
	}
	k.begin()
	k.fail()
	if !k.relevant(acquire, nil) {
		t.Error("after a failure something asks for no look")
	}
}

// The step ahead gets all notifications since the reading, each once, or is told that some
// are missing.
func TestNotificationsForTheStepAhead(t *testing.T) {
	var k eventFilter
	take := func(want int, complete bool) {
		t.Helper()
		if notes, ok := k.take(); len(notes) != want || ok != complete {
			t.Errorf("%d notifications, %t, want %d, %t", len(notes), ok, want, complete)
		}
	}
	k.begin()
	k.relevant(acquire, nil)
	k.end(follow.NewIndex(xfrm.Snapshot{}))
	take(0, false) // not kept
	k.keepNotes(true)
	k.relevant(acquire, nil)
	take(1, true)
	take(0, true)
	k.begin()
	k.relevant(acquire, nil)
	k.relevant(acquire, nil)
	take(2, true) // from the last reading on
	k.end(follow.NewIndex(xfrm.Snapshot{}))
	take(2, true) // from this one on
	for range mostRecent + 1 {
		k.relevant(acquire, nil)
	}
	take(mostRecent, false)
	take(0, false)
	k.begin()
	k.relevant(acquire, nil)
	take(0, false) // some are missing from the last reading on
	k.end(follow.NewIndex(xfrm.Snapshot{}))
	take(1, true)
	k.fail()
	take(0, false)
	k.begin()
	take(0, false)
	k.end(follow.NewIndex(xfrm.Snapshot{}))
	take(0, true)
}

// A loss while the kernel is read has it read again, because the reading may have come
// before the change.
func TestALossWhileTheKernelIsRead(t *testing.T) {
	var k eventFilter
	k.keepNotes(true)
	k.begin()
	k.end(follow.NewIndex(xfrm.Snapshot{}))
	k.begin()
	k.relevant(acquire, nil)
	k.lose()
	k.relevant(acquire, nil)
	if _, ok := k.take(); ok {
		t.Error("a step is taken though notifications are missing")
	}
	if !k.end(follow.NewIndex(xfrm.Snapshot{})) {
		t.Error("no look is asked for")
	}
	if _, ok := k.take(); ok {
		t.Error("a step is taken from a reading that may lack changes")
	}
	if !k.relevant(flushed, make([]byte, 1)) {
		t.Error("a later change asks for no look")
	}
	k.begin()
	if k.end(follow.NewIndex(xfrm.Snapshot{})) {
		t.Error("another look is asked for")
	}
	if _, ok := k.take(); !ok {
		t.Error("no step is taken after the next reading")
	}
}
