package daemon

import (
	"sync"

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
	// contain their changes, or not. gap is true if some are missing.
	missed       []wire.Note
	reading, gap bool
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

// relevant judges one notification, for kernel.WatchFor. While the kernel is read it
// asks for a step alone, because end judges all that came meanwhile.
func (f *eventFilter) relevant(typ uint16, body []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.reading && f.index == nil {
		return wire.Classify(typ, body).Look()
	}
	note := f.decoder.NoteOf(typ, body)
	if f.reading {
		if f.gap = f.gap || len(f.missed) >= mostMissed; !f.gap {
			f.missed = append(f.missed, note)
		}
	}
	if f.index == nil {
		return false
	}
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

// begin is called before the kernel is read. Steps go on from the last reading.
func (f *eventFilter) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missed, f.reading, f.gap = f.missed[:0], true, false
	if !f.keep {
		f.index = nil
	}
}

// end is called when rules that follow from the records of an index are in force. It reports
// whether the kernel has changed meanwhile.
func (f *eventFilter) end(index *follow.Index) (look bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recent, f.lost, look = nil, f.gap, f.gap
	for _, n := range f.missed {
		f.note(n)
		look = index.Take(n) || look
	}
	f.index, f.missed, f.reading, f.gap = index, nil, false, false
	return look
}

// fail is called when a look failed: each later notification causes one.
func (f *eventFilter) fail() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index, f.missed, f.reading = nil, nil, false
	f.recent, f.lost = nil, true
}

// lose is called when notifications were lost: a look is due, and if one is under way
// another one after it.
func (f *eventFilter) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gap = f.reading
	f.index, f.recent, f.lost = nil, nil, true
}
