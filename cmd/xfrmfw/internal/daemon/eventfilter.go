package daemon

import (
	"sync"

	"github.com/xfrmfw/xfrmfw/xfrm"
)

// eventFilter judges notifications by the kernel's records at the last reading, kept up
// to date by the notifications themselves, so that one that changes no rule, as of a
// rekey, causes no look.
type eventFilter struct {
	mu      sync.Mutex
	decoder xfrm.Decoder
	// index is nil before the kernel was read.
	index *xfrm.Index
	// missed are the notifications that came while the kernel was read: the reading may
	// contain their changes, or not.
	missed  []xfrm.Note
	reading bool
}

// mostMissed bounds missed. With more notifications the kernel is read again.
const mostMissed = 1 << 16

// relevant judges one notification, for kernel.WatchFor.
func (f *eventFilter) relevant(typ uint16, body []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.reading && len(f.missed) < mostMissed:
		f.missed = append(f.missed, f.decoder.NoteOf(typ, body))
		return false
	case f.index == nil:
		return xfrm.Classify(typ, body).Look()
	}
	return f.index.Take(f.decoder.NoteOf(typ, body))
}

// begin is called before the kernel is read.
func (f *eventFilter) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index, f.missed, f.reading = nil, f.missed[:0], true
}

// end is called when rules that follow from the snapshot are in force. It reports whether
// the kernel has changed meanwhile.
func (f *eventFilter) end(s xfrm.Snapshot) (look bool) {
	index := xfrm.NewIndex(s)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.missed {
		look = index.Take(n) || look
	}
	f.index, f.missed, f.reading = index, nil, false
	return look
}

// fail is called when a look failed: each later notification causes one.
func (f *eventFilter) fail() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index, f.missed, f.reading = nil, nil, false
}
