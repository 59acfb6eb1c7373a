package daemon

import (
	"sync"

	"github.com/xfrmfw/xfrmfw/xfrm"
	"github.com/xfrmfw/xfrmfw/xfrm/follow"
	"github.com/xfrmfw/xfrmfw/xfrm/wire"
)

// eventFilter judges notifications by the kernel's records at the last reading, kept up
// to date by the notifications themselves, so that one that changes no rule, as of a
// rekey, causes no look.
type eventFilter struct {
	mu      sync.Mutex
	decoder wire.Decoder
	// index is nil before the kernel was read.
	index *follow.Index
	// missed are the notifications that came while the kernel was read: the reading may
	// contain their changes, or not.
	missed  []wire.Note
	reading bool
	// recent are all notifications since the reading, for the step ahead of the next one,
	// if they are kept. lost is true if some are missing.
	recent     []wire.Note
	keep, lost bool
}

// mostMissed bounds missed, with more of which the kernel is read again, and mostRecent
// bounds recent.
const (
	mostMissed = 1 << 16
	mostRecent = 1 << 13
)

// relevant judges one notification, for kernel.WatchFor.
func (f *eventFilter) relevant(typ uint16, body []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.reading && len(f.missed) < mostMissed:
		f.missed = append(f.missed, f.decoder.NoteOf(typ, body))
		return false
	case f.index == nil:
		return wire.Classify(typ, body).Look()
	}
	note := f.decoder.NoteOf(typ, body)
	f.note(note)
	return f.index.Take(note)
}

// note keeps a notification for the step ahead.
func (f *eventFilter) note(n wire.Note) {
	if f.lost = f.lost || f.keep && len(f.recent) >= mostRecent; f.keep && !f.lost {
		f.recent = append(f.recent, n)
	}
}

// take returns the notifications since it was called last, and false if some are missing.
func (f *eventFilter) take() (notes []wire.Note, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	notes, f.recent = f.recent, nil
	return notes, f.keep && !f.lost && f.index != nil
}

// keepNotes says whether notifications are kept for take.
func (f *eventFilter) keepNotes(keep bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keep, f.recent = keep, nil
}

// begin is called before the kernel is read.
func (f *eventFilter) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index, f.missed, f.reading = nil, f.missed[:0], true
	f.recent, f.lost = nil, false
}

// end is called when rules that follow from the snapshot are in force. It reports whether
// the kernel has changed meanwhile.
func (f *eventFilter) end(s xfrm.Snapshot) (look bool) {
	index := follow.NewIndex(s)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recent, f.lost = nil, false
	for _, n := range f.missed {
		f.note(n)
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
	f.recent, f.lost = nil, true
}
