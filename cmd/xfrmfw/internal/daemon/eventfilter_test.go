package daemon

import (
	"testing"

	"github.com/xfrmfw/xfrmfw/xfrm"
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
	if !k.end(xfrm.Snapshot{}) {
		t.Error("what came meanwhile is forgotten")
	}
	if k.relevant(acquire, nil) || !k.relevant(flushed, nil) {
		t.Error("it is not judged by what is known")
	}
	k.begin()
	if k.end(xfrm.Snapshot{}) {
		t.Error("a look is asked for though nothing came")
	}
	k.begin()
	for range mostMissed {
		k.relevant(acquire, nil)
	}
	if !k.relevant(acquire, nil) {
		t.Error("what can't be kept for later asks for no look")
	}
	k.begin()
	k.fail()
	if !k.relevant(acquire, nil) {
		t.Error("after a failure something asks for no look")
	}
}
